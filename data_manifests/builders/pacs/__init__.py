"""Builder of pacs@1.0 and the search of its training recipe."""
