"""The classic builder: stages one after the other, step by step, told as docker's `POST /build` tells it.

Turns commands into operations, has the solver do them, and writes the stream of JSON messages. Every stage up to the
target is built, used or not. What only BuildKit's front end has (RUN --mount, COPY --parents …) is refused by name.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from corten.base.errors import Error, InvalidArgument, NotFound, Unsupported
from corten.base.ids import short_id
from corten.build import changes
from corten.build.arguments import ARCHITECTURE, BuildArguments
from corten.build.context import Tree, select
from corten.build.copying import copy_operation
from corten.build.dockerfile import parse
from corten.build.graph import Vertex, source
from corten.build.heredocs import heredoc_of
from corten.build.instructions import Command, Plan, Stage, read_plan
from corten.build.ops import Backend, CommandFailed, MakeFolder, Operation, Run, RunStep
from corten.build.run_mounts import parse_mount
from corten.build.solver import Solver
from corten.build.stage import BuildImage, StageState, scratch
from corten.build.variables import Expander
from corten.oci.platform import parse_platform

_BUILDKIT = ("the --{} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ "
             "to learn how to build images with BuildKit enabled")


class Options:
    """What the caller asks of one build."""

    __slots__ = ("arguments", "buildkit", "force_remove", "labels", "platform", "pull", "quiet", "remove", "target",
                 "use_cache")

    def __init__(self) -> None:
        self.arguments: dict[str, str | None] = {}
        self.labels: dict[str, str] = {}
        self.target = ""
        self.platform = ""
        self.use_cache, self.pull, self.quiet = True, False, False
        self.remove, self.force_remove = True, False
        self.buildkit = False  # asked for by BuildKit's protocol: flags that are its own are honoured


QUIET_LINES = 2000  # what a quiet build that fails shows at most


class Teller:
    """Writes messages; is the solver's observer. `say` and `write` take what goes to the client."""

    __slots__ = ("_held", "_options", "_write", "containers")

    def __init__(self, write: Callable[[dict[str, Any]], None], options: Options) -> None:
        self._write, self._options = write, options
        self.containers: list[str] = []
        self._held: deque[str] = deque(maxlen=QUIET_LINES)

    def say(self, text: str) -> None:
        """To the client at once; a quiet build keeps the end of it for `confess`."""
        if self._options.quiet:
            self._held.append(text)
        else:
            self._write({"stream": text})

    def confess(self) -> None:
        """A quiet build has failed: say what it has kept."""
        for text in self._held:
            self._write({"stream": text})
        self._held.clear()

    def aux(self, image_id: str) -> None:
        if not self._options.quiet:
            self._write({"aux": {"ID": image_id}})

    def stage(self, index: int, stage: Stage, total: int) -> None:
        """A stage begins, one of `total`."""

    def step(self, number: int, total: int, code: str) -> None:
        """A step begins."""
        self.say(f"Step {number}/{total} : {code}")
        self.say("\n")

    def step_done(self, image_id: str) -> None:
        """It has ended, with this image."""
        self.say(f" ---> {short_id(image_id)}\n")

    def built(self, image_id: str) -> None:
        """The whole has ended well; all that a quiet build tells."""
        if self._options.quiet:
            self._write({"stream": f"{image_id}\n"})
        else:
            self.say(f"Successfully built {short_id(image_id)}\n")

    def tagged(self, name: str) -> None:
        """The image has been given a name."""
        self.say(f"Successfully tagged {name}\n")

    def running(self, container_id: str) -> None:
        self.containers.append(container_id)
        self.say(f" ---> Running in {short_id(container_id)}\n")

    def output(self, stream: int, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        self.say(f"\x1b[91m{text}\x1b[0m" if stream == 2 else text)

    def cached(self) -> None:
        self.say(" ---> Using cache\n")

    def removed(self) -> None:
        for container_id in self.containers:
            self.say(f" ---> Removed intermediate container {short_id(container_id)}\n")
        self.containers.clear()


def read(text: bytes, options: Options) -> Plan:
    """A Dockerfile made into the plan of one build. Raises InvalidArgument before anything is done."""
    plan = read_plan(parse(text))
    if options.target:
        plan.up_to(options.target)
    if options.labels:
        pairs = " ".join(f"{_quote(name)}={_quote(value)}" for name, value in sorted(options.labels.items()))
        labels = read_plan(parse(f"FROM scratch\nLABEL {pairs}\n")).stages[0].commands
        for command, (name, value) in zip(_one_each(labels[0]), sorted(options.labels.items()), strict=True):
            command.code = f"LABEL {name}={value}"
            plan.stages[-1].commands.append(command)
    return plan


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _one_each(command: Command) -> list[Command]:
    found = []
    for pair in command.pairs:
        one = Command(command.instruction)
        one.pairs = [pair]
        found.append(one)
    return found


class ClassicBuild:
    """One build. `run()` returns the id of the last stage's image; raises Error, CommandFailed, Cancelled."""

    def __init__(self, plan: Plan, options: Options, context: Callable[[], Any], backend: Backend,
                 teller: Teller) -> None:
        self.plan, self.options, self.backend, self.teller = plan, options, backend, teller
        self._open_context = context  # async: the tree of the build context, unpacked when first asked for
        self._solver = Solver(backend, options.use_cache)
        self._arguments = BuildArguments(options.arguments)
        self._built: list[BuildImage] = []
        self._step = 0
        self._total = len(plan.meta_args) + sum(1 + len(stage.commands) for stage in plan.stages)
        self._trees = AsyncExitStack()
        self._opened: dict[str, Tree] = {}

    async def run(self) -> str:
        for warning in self.plan.warnings:
            self.teller.output(2, warning.encode())
        try:
            for command in self.plan.meta_args:
                self._next_step(command.code)
                self._global_argument(command)
            for stage in self.plan.stages:
                await self._stage(stage)
        except BaseException:
            if self.options.force_remove:
                self.teller.removed()
            self.teller.confess()
            raise
        finally:
            await self._trees.aclose()
        if unused := self._arguments.unused():
            self.teller.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        image = self._built[-1]
        if not image.id:
            raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
        return image.id

    def _next_step(self, code: str) -> None:
        self.backend.check()
        self._step += 1
        self.teller.step(self._step, self._total, code)

    def _global_argument(self, command: Command) -> None:
        words = Expander(self._arguments.global_values(), self.plan.escape)
        for name, default in command.pairs:
            self._arguments.declare_global(words.word(name), None if default is None else words.word(default))

    async def _stage(self, stage: Stage) -> None:
        self.teller.stage(len(self._built), stage, len(self.plan.stages))
        self._next_step(stage.code)
        image = await self._base(stage)
        state = StageState(stage.name, image, self._arguments.stage(), self.plan.escape)
        await self._triggers(state)
        self.teller.step_done(state.image.id)
        for command in stage.commands:
            self._next_step(command.code)
            await self._command(state, command)
            if self.options.remove:
                self.teller.removed()
            self.teller.containers.clear()
            self.teller.step_done(state.image.id)
        if state.image.id:
            self.teller.aux(state.image.id)
        self._built.append(state.image)

    async def _base(self, stage: Stage) -> BuildImage:
        words = Expander(self._arguments.global_values(), self.plan.escape)
        name = words.word(stage.base)
        if not name:
            raise InvalidArgument(f"base name ({stage.base}) should not be blank")
        check_platform(words.word(stage.platform) or self.options.platform)
        for index in range(len(self._built) - 1, -1, -1):
            if self.plan.stages[index].name == name.lower():
                return self._built[index]
        if name.lower() == "scratch":
            return scratch()
        return await self.backend.resolve(name, self.options.pull)

    async def _triggers(self, state: StageState) -> None:
        """ONBUILD of the base image."""
        triggers = state.config.pop("OnBuild", None) or []
        if not triggers:
            return
        self.teller.say(f"# Executing {len(triggers)} build trigger")
        if len(triggers) > 1:
            self.teller.say("s")
        self.teller.say("\n")
        text = f"# escape={state.escape}\nFROM scratch\n" + "\n".join(triggers)
        for command in read_plan(parse(text)).stages[0].commands:
            await self._command(state, command)
            if self.options.remove:
                self.teller.removed()
            self.teller.containers.clear()

    async def _command(self, state: StageState, command: Command) -> None:
        operation = await self._operation(state, command)
        vertex = Vertex(source(state.image), operation)
        state.adopt(await self._solver.solve(vertex, self.teller))

    async def _operation(self, state: StageState, command: Command) -> Operation:
        name = command.name
        if name == "RUN":
            return await self._run_operation(state, command)
        if name in ("COPY", "ADD"):
            return await copy_operation(state, command, functools.partial(self._tree, state), self.backend)
        if name == "WORKDIR":
            path = changes.working_directory(state, command)
            state.config["WorkingDir"] = path
            return MakeFolder(state.no_op(f"WORKDIR {path}", spaced=False), state.document, path)
        before = (state.config.get("Healthcheck") or {}).get("Test")
        if name == "HEALTHCHECK" and before:
            self.teller.say(f"Note: overriding previous HEALTHCHECK: [{' '.join(before)}]\n")
        return Operation(state.no_op(changes.CHANGES[name](state, command)), state.document)

    async def _run_operation(self, state: StageState, command: Command) -> Run:
        if not self.options.buildkit:
            for flag in command.flags:
                raise Unsupported(_BUILDKIT.format(flag))
        program = changes.command_line(state, command)
        if not program:
            raise InvalidArgument("no command specified")
        if command.heredocs:
            program = _with_heredocs(state, command)
        values = state.arguments.for_run(state.config["Env"])
        recorded = state.arguments.recorded(values)
        environment = [*state.config["Env"], *(f"{name}={value}" for name, value in sorted(values.items()))]
        step = RunStep(program, environment, state.config.get("User") or "", state.config.get("WorkingDir") or "/")
        flags = await self._run_flags(state, command, step)
        return Run(state.document, [f"|{len(recorded)}", *recorded, *program] if recorded else program, step, flags)

    async def _run_flags(self, state: StageState, command: Command, step: RunStep) -> list[str]:
        """--mount, --network, --security into the step; all that they add to what decides its result."""
        words = changes.expander(state)
        if command.flag("device") or words.word(command.flag("security")) not in ("", "sandbox"):
            raise Unsupported("RUN --device and --security=insecure are not done yet")
        step.network = {"": "", "default": "", "none": "none"}.get(words.word(command.flag("network")), "?")
        if step.network == "?":
            raise Unsupported(f"RUN --network={command.flag('network')} is not done yet")
        decides = [step.network] if step.network else []
        for text in command.flags.get("mount", ()):
            mount = parse_mount(words.word(text), step.working_dir)
            step.mounts.append(mount)
            decides.append(mount.text)
            if mount.kind == "bind" and mount.values.get("from"):
                mount.image = await self._image(mount.values["from"])
                decides.append(mount.image.id)
            elif mount.kind == "bind":
                tree = await self._tree(state, "")
                found = await asyncio.to_thread(select, tree, [mount.path or "."], [], self.backend.check)
                decides.append(found.name)
        return decides

    async def _tree(self, _state: StageState, name: str) -> Tree:
        """What COPY --from names: a stage by name or number, else an image; "" is the build context."""
        if name not in self._opened:
            if not name:
                tree: Tree = await self._open_context()
            else:
                tree = await self._trees.enter_async_context(self.backend.tree(await self._image(name)))
            self._opened[name] = tree
        return self._opened[name]

    async def _image(self, name: str) -> BuildImage:
        index = self.plan.stage_index(name)
        if 0 <= index < len(self._built):
            return self._built[index]
        if index == len(self._built):
            raise NotFound(f"invalid from flag value {name}: refers to current build stage")
        try:
            return await self.backend.resolve(name, False)
        except Error as error:
            raise NotFound(f"invalid from flag value {name}: {error}") from None


def _with_heredocs(state: StageState, command: Command) -> list[str]:
    """RUN <<EOF: a lone heredoc is the script itself, else the shell reads it as shells do."""
    if heredoc_of(command.arguments[0]):
        script = command.heredocs[0].chomped
        if script.startswith("#!"):
            raise Unsupported("RUN: a heredoc that begins with #! is not done yet by this builder")
        return [*state.shell, script]
    body = "".join(f"\n{one.content}{one.name}" for one in command.heredocs)
    return [*state.shell, command.arguments[0] + body]


def check_platform(text: str) -> None:
    """Only the machine's own platform is built. Raises InvalidArgument, Unsupported."""
    if not text:
        return
    parse_platform(text)
    parts = text.lower().split("/")
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(parts[-1] if len(parts) < 3 else parts[1])
    architecture = architecture or (parts[1] if len(parts) > 1 else parts[0])
    if (len(parts) > 1 and parts[0] != "linux") or architecture not in (ARCHITECTURE, "linux"):
        raise Unsupported(f"platform {text} is not supported: this machine builds linux/{ARCHITECTURE} only")


def failure(error: BaseException) -> dict[str, Any]:
    """The last message of a failed build."""
    detail: dict[str, Any] = {"message": str(error)}
    if isinstance(error, CommandFailed):
        detail = {"code": error.code, "message": str(error)}
    return {"errorDetail": detail, "error": str(error)}


def arguments_from(values: Mapping[str, Any]) -> dict[str, str | None]:
    """`buildargs` as given: strings, or null for "declared, not given". Raises InvalidArgument."""
    if not all(value is None or isinstance(value, str) for value in values.values()):
        raise InvalidArgument("error reading build args: values must be strings")
    return dict(values)
