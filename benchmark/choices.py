"""What options offer and their defaults, from Python and the command line. Imports nothing."""

DEVICES = ("auto", "cpu", "cuda")
ISOLATION = ("auto", "required")
WORKSPACE = "workspace"  # the default
TIME_LIMIT = 86_400  # seconds of a run, by default
SPLIT_FORMATS = ("txt", "csv", "parquet", "json", "imagefolder")
CLASS_ORDERS = {
    "manifest": "the manifest's order, which is also the order of logits",
    "sorted": "sorted by name (by code point), the order that image-folder loaders use",
    "seen-first": "the seen classes, then the others, each in the manifest's order",
}
