"""From manifests to predictions. Authors and scripts import from `htbench`, not from here."""
