"""Run untrusted code in locked processes: the sandbox, the fork server and its client."""
