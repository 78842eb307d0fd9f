"""Submissions: pack runs for a public board, check them, repeat them and put them on the board."""
