"""The names of the measures of isolation that the record of a run lists."""

NO_NEW_PRIVILEGES = "no-new-privileges"  # no set-user-id program or file capability takes effect
NO_CAPABILITIES = "no-capabilities"  # of root's powers only the bypass of file modes is left
NO_FILESYSTEM = "no-filesystem"  # Landlock: nothing off the allow-list can be opened or changed
NO_NETWORK = "no-network"  # seccomp: no socket can be connected or, except CUDA's own, created
NO_PROCESSES = "no-processes"  # seccomp: no fork and no exec; threads only
NO_INSPECTION = "no-inspection"  # seccomp: no tracing, signalling or sharing memory with others

# What keeps a method from the labels; a run without one of these is not fully isolated.
FULL_ISOLATION = (NO_FILESYSTEM, NO_NETWORK, NO_PROCESSES, NO_INSPECTION)


def landlock_fact(abi: int) -> str:
    """Name the Landlock interface in force: ``landlock-abi-7``."""
    return f"landlock-abi-{abi}"
