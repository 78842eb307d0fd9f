"""What runs in a child: untrusted methods, and everything else that opens untrusted files."""
