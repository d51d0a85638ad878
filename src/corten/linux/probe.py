"""What the running kernel has of the calls that are younger than Linux 5.10, the oldest one we run on.

A call is tried; when the kernel answers ENOSYS it is noted here and the older way is taken from then on. A test sets
an attribute to False to be shown the older way on a newer kernel.
"""


class Kernel:
    """One attribute a call: True until the kernel has refused it."""

    __slots__ = ("mount_setattr",)

    def __init__(self) -> None:
        self.mount_setattr = True  # Linux 5.12


kernel = Kernel()
