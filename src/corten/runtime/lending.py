"""The launcher's part of a start: a container's init that takes its steps in our memory until it executes.

The parent's half of the dialogue is create.py's, in the process that has asked; the child is our sibling.
"""

import os

from corten.linux import namespaces, seccomp, vfork
from corten.linux.vfork import Lender
from corten.runtime import init
from corten.runtime.bundle import Bundle
from corten.runtime.create import birthplace, enter_joined
from corten.runtime.plan import Plan


def lend(lender: Lender, bundle: Bundle, fds: list[int]) -> bool:
    """Make an init for whoever waits at the other end of its channel.

    `fds`: the child's end of the channel, its stdio, and perhaps an unused network namespace; they are closed here as
    soon as the child has its own. False: it was killed in the middle of something, and our memory is not to be lent
    again. Where that cannot be done for a container there is no child. Raises as create.spawn.
    """
    plan = Plan(bundle)
    plan.keyring = f"_ses.{bundle.id}"
    if _needs_own_memory(plan):
        return True
    plan.lent = True
    channel, stdin, stdout, stderr, *spare = fds
    if spare and plan.clone_flags & namespaces.CLONE_NEWNET:
        plan.spare_network = fds.pop()
    group = birthplace(bundle, plan)
    restore: list[tuple[int, int]] = []
    try:
        enter_joined(plan, restore)
        _pid, pidfd = lender.clone(
            vfork.CLONE_PARENT | plan.clone_flags, group, lambda: init.main(plan, channel, (stdin, stdout, stderr))
        )
        while fds:
            os.close(fds.pop(0))
    finally:
        if group >= 0:
            os.close(group)
        for descriptor, flag in restore:
            namespaces.setns(descriptor, flag)
            os.close(descriptor)
    os.close(pidfd)
    intact = plan.left or lender.ended
    for name in plan.__slots__:  # the child's frames stay, and what they have hold of with them: it must not weigh much
        if hasattr(plan, name):
            delattr(plan, name)
    return intact


def _needs_own_memory(plan: Plan) -> bool:
    """What stays in the memory it began in, or takes more of its parent's help, is not for a launcher."""
    return bool(
        plan.reaper or plan.hooks or plan.user_namespace or plan.user_namespace_path or plan.pid_namespace_path
        or not plan.clone_flags & namespaces.CLONE_NEWPID or "time" in plan.kinds or plan.net_devices
        or plan.program.filter_flags & seccomp.NEW_LISTENER
    )
