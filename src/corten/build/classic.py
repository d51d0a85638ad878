"""The builder: a plan's commands become operations, the solver does them, a teller tells how it goes.

Asked by `POST /build` it is docker's classic builder: every stage up to the target, used or not, one after the other,
and what only BuildKit's front end has (RUN --mount, COPY --parents …) is refused by name. Asked by BuildKit's protocol
it builds the stages that the target needs, at the same time where they do not wait for each other (stages.py).
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from corten.base.errors import Error, InvalidArgument, NotFound, Unsupported
from corten.build import changes, history, link, provenance
from corten.build.arguments import BuildArguments
from corten.build.context import Tree, select
from corten.build.copying import copy_operation
from corten.build.dockerfile import parse
from corten.build.graph import Vertex, files_name, source
from corten.build.heredocs import inline_path, script_of
from corten.build.instructions import Command, Plan, Stage, read_plan
from corten.build.ops import Backend, CommandFailed, Copy, MakeFolder, Operation, Run, RunStep
from corten.build.run_mounts import parse_mount
from corten.build.solver import Solver
from corten.build.stage import BuildImage, StageState, scratch
from corten.build.stages import Stages, needed_stages
from corten.build.teller import Options, Teller
from corten.build.variables import Expander
from corten.oci.platform import Platform, host_platform, parse_platform
from corten.oci.reference import parse as parse_reference

_BUILDKIT = ("the --{} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ "
             "to learn how to build images with BuildKit enabled")


class StageWork:
    """A stage under way: its place in the plan, its state, who tells of it, who solves for it."""

    __slots__ = ("index", "solver", "state", "teller")

    def __init__(self, index: int, state: StageState, teller: Teller, solver: Solver) -> None:
        self.index, self.state, self.teller, self.solver = index, state, teller, solver


class ClassicBuild:
    """One build. `run()` returns the id of the last stage's image; raises Error, CommandFailed, Cancelled."""

    def __init__(self, plan: Plan, options: Options, context: Callable[[str], Awaitable[Tree]], backend: Backend,
                 teller: Teller) -> None:
        self.plan, self.options, self.backend, self.teller = plan, options, backend, teller
        self._open_context = context  # the tree of a context by name, "" the main one, unpacked when first asked for
        self._platform = build_platform(options.platform)
        self._arguments = BuildArguments(options.arguments, plan.stages[-1].name, self._platform)
        self.failed_at: tuple[int, int] | None = None  # the lines of the first command that failed
        self._stage_arguments: dict[int, BuildArguments] = {}
        self.done: list[provenance.Step] = []
        self.bases: dict[tuple[str, Platform], str] = {}  # all that is built on or copied from: its id
        self._stages = Stages(self._stage)
        self._step = 0
        self._total = len(plan.meta_args) + sum(1 + len(stage.commands) for stage in plan.stages)
        self._trees = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._opened: dict[str, Tree] = {}

    async def run(self) -> str:
        for warning in self.plan.warnings:
            self.teller.output(2, warning.encode())
        try:
            for command in self.plan.meta_args:
                self._next_step(self.teller, command.code)
                self._global_argument(command)
            last = len(self.plan.stages) - 1
            needed = needed_stages(self.plan, self._arguments.global_values(), self._is_named)
            image = await self._stages.build(last, needed, one_by_one=not self.options.buildkit)
        except BaseException:
            if self.options.force_remove:
                await self.backend.remove_kept()
                self.teller.removed()
            self.teller.confess()
            raise
        finally:
            await self._stages.close()
            await self._trees.aclose()
        if unused := self._arguments.unused():
            self.teller.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        if not image.id:
            raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
        return image.id

    def _next_step(self, teller: Teller, code: str) -> None:
        self.backend.check()
        self._step += 1
        teller.step(self._step, self._total, code)

    def _global_argument(self, command: Command) -> None:
        for name, default in command.pairs:
            words = Expander(self._arguments.global_values(), self.plan.escape)
            self._arguments.declare_global(words.word(name), None if default is None else words.word(default))

    async def _stage(self, index: int) -> BuildImage:
        stage = self.plan.stages[index]
        teller = self.teller.stage(index, stage, len(self.plan.stages), str(self._platform_of(stage)))
        self._next_step(teller, stage.code)
        try:
            return await self._build_stage(index, stage, teller)
        except BaseException as error:
            teller.failed(error)
            raise

    async def _build_stage(self, index: int, stage: Stage, teller: Teller) -> BuildImage:
        cached = self.options.use_cache and stage.name not in self.options.uncached_stages
        solver = Solver(self.backend, cached)
        if self._is_only_folder(stage.name):
            return await self._folder_image(index, stage.name, teller, solver)
        if (named := await self._named_image(stage.name)) is not None:
            return named
        image = await self._base(index, stage, teller, solver)
        arguments = self._arguments.stage(self._inherited(index, stage))
        self._stage_arguments[index] = arguments
        state = StageState(stage.name, image, arguments, self.plan.escape)
        state.epoch, state.buildkit = self.options.epoch, self.options.buildkit
        if state.buildkit and not image.id:
            state.config["WorkingDir"] = "/"
        work = StageWork(index, state, teller, solver)
        await self._triggers(work)
        teller.step_done(state.image.id)
        for command in stage.commands:
            self._next_step(teller, command.code)
            await self._command(work, command)
            if self.options.remove:
                teller.removed()
            teller.step_done(state.image.id)
        if state.image.id:
            teller.aux(state.image.id)
        return state.image

    def _inherited(self, at: int, stage: Stage) -> BuildArguments | None:
        """The arguments of the stage that this one begins with; the classic builder's stages begin without."""
        name = Expander(self._arguments.global_values(), self.plan.escape).word(stage.base)
        found = [index for index in range(at) if name and self.plan.stages[index].name == name.lower()]
        return self._stage_arguments.get(found[-1]) if found and self.options.buildkit else None

    def _platform_of(self, stage: Stage) -> Platform:
        words = Expander(self._arguments.global_values(), self.plan.escape)
        return build_platform(words.word(stage.platform)) if stage.platform else self._platform

    async def _base(self, at: int, stage: Stage, teller: Teller, solver: Solver) -> BuildImage:
        words = Expander(self._arguments.global_values(), self.plan.escape)
        name = words.word(stage.base)
        if not name:
            raise InvalidArgument(f"base name ({stage.base}) should not be blank")
        platform = self._platform_of(stage)
        for index in range(at - 1, -1, -1):
            if self.plan.stages[index].name == name.lower():
                return await self._stages.image(index)
        if self._is_only_folder(name):
            return await self._folder_image(at, name, teller, solver)
        if (named := await self._named_image(name)) is not None:
            return named
        if name.lower() == "scratch":
            return scratch(platform)
        return await self._resolve(name, self.options.pull, platform)

    async def _resolve(self, name: str, pull: bool, platform: Platform) -> BuildImage:
        image = await self.backend.resolve(name, pull, platform)
        self.bases[name, platform] = image.id
        return image

    async def _triggers(self, work: StageWork) -> None:
        """ONBUILD of the base image."""
        state, teller = work.state, work.teller
        triggers = state.config.pop("OnBuild", None) or []
        if not triggers:
            return
        teller.say(f"# Executing {len(triggers)} build trigger")
        if len(triggers) > 1:
            teller.say("s")
        teller.say("\n")
        text = f"# escape={state.escape}\nFROM scratch\n" + "\n".join(triggers)
        for command in read_plan(parse(text)).stages[0].commands:
            await self._command(work, command)
            if self.options.remove:
                teller.removed()

    async def _command(self, work: StageWork, command: Command) -> None:
        try:
            await self._do(work, command)
        except (Error, CommandFailed, OSError):
            self.failed_at = self.failed_at or (command.line, command.end_line)
            raise

    async def _do(self, work: StageWork, command: Command) -> None:
        operation = await self._operation(work, command)
        if self.options.buildkit and command.flag("link") == "true" and isinstance(operation, Copy):
            commit, empty = operation.commit, link.alone(operation)
            layer = Vertex(source(empty), operation, epoch=self.options.epoch, content=True)
            operation = link.OnTop(operation, commit, await work.solver.solve(layer, work.teller))
        if self.options.buildkit:
            history.reword(work.state, command, operation)
        below = work.state.image
        vertex = Vertex(source(below), operation, epoch=self.options.epoch, content=self.options.buildkit)
        work.state.adopt(image := await work.solver.solve(vertex, work.teller))
        self.done.append(provenance.Step(operation, below.id, image.id, (command.line, command.end_line)))

    async def _operation(self, work: StageWork, command: Command) -> Operation:
        name, state = command.name, work.state
        if name == "RUN":
            return await self._run_operation(work, command)
        if name in ("COPY", "ADD"):
            return await copy_operation(state, command, functools.partial(self._tree, work.index), self.backend)
        if name == "WORKDIR":
            path = changes.working_directory(state, command)
            state.config["WorkingDir"] = path
            user = str(state.config.get("User") or "") if self.options.buildkit else ""  # the classic builder: root's
            return MakeFolder(state.no_op(f"WORKDIR {path}", spaced=False), state.document, path, user)
        before = (state.config.get("Healthcheck") or {}).get("Test")
        if name == "HEALTHCHECK" and before:
            work.teller.say(f"Note: overriding previous HEALTHCHECK: [{' '.join(before)}]\n")
        return Operation(state.no_op(changes.CHANGES[name](state, command)), state.document)

    async def _run_operation(self, work: StageWork, command: Command) -> Run:
        state = work.state
        if not self.options.buildkit:
            for flag in command.flags:
                raise Unsupported(_BUILDKIT.format(flag))
        program = changes.command_line(state, command)
        if not program:
            raise InvalidArgument("no command specified")
        if command.heredocs:
            program = [*state.shell, script_of(command.arguments[0], command.heredocs)]
        values = state.arguments.for_run(state.config["Env"])
        recorded = state.arguments.recorded(values)
        environment = [*state.config["Env"], *(f"{name}={value}" for name, value in sorted(values.items()))]
        step = RunStep(program, environment, state.config.get("User") or "", state.config.get("WorkingDir") or "/")
        flags = await self._run_flags(work, command, step)
        if command.heredocs and program[-1] == inline_path(command.heredocs):
            step.inline = (program[-1], command.heredocs[0].chomped)
            flags.append(step.inline[1])
        if self.options.buildkit:
            around = [state.config["Env"], step.user, step.working_dir, self.backend.surroundings()]
            flags.append(json.dumps(around))
        return Run(state.document, [f"|{len(recorded)}", *recorded, *program] if recorded else program, step, flags)

    async def _run_flags(self, work: StageWork, command: Command, step: RunStep) -> list[str]:
        """--mount, --network, --security into the step; all that they add to what decides its result."""
        words = changes.expander(work.state)
        insecure = command.flag("security") == "insecure"
        step.network = command.flag("network").removeprefix("default")
        for asked, name in ((step.network == "host", "network.host"), (insecure, "security.insecure")):
            if asked and name not in self.options.entitlements:
                raise InvalidArgument(f"{name} is not allowed")
        if command.flag("device") or insecure:
            raise Unsupported("RUN --device and --security=insecure are not done yet")
        decides = [step.network] if step.network else []
        for text in command.flags.get("mount", ()):
            mount = parse_mount(text, step.working_dir, words.word)
            step.mounts.append(mount)
            decides.append(words.word(mount.text))
            origin = mount.values.get("from", "scratch")
            if mount.kind in ("bind", "cache") and origin != "scratch" and not self._is_folder(origin):
                mount.image = await self._image(work.index, mount.values["from"])
                decides.append(files_name(mount.image))
            elif mount.kind == "bind":
                mount.tree = tree = await self._tree(work.index, origin if self._is_folder(origin) else "")
                found = await asyncio.to_thread(select, tree, [mount.path or "."], [], self.backend.check)
                decides.append(found.name)
        return decides

    async def _tree(self, at: int, name: str) -> Tree:
        """What COPY --from names in stage `at`: a stage by name or number, else an image; "" is the build context."""
        folder = "" if self.plan.stage_index(name) in range(at) else context_name(name) if name else ""
        image = None if not name or folder in self.options.named_folders else await self._image(at, name)
        async with self._opening:  # stages ask at the same time
            if name not in self._opened:
                self._opened[name] = (await self._open_context(folder) if image is None else
                                      await self._trees.enter_async_context(self.backend.tree(image)))
            return self._opened[name]

    async def _folder_image(self, at: int, name: str, teller: Teller, solver: Solver) -> BuildImage:
        """A folder that a caller names, as an image to begin with: its files on nothing, as if copied there."""
        plan = read_plan(parse(f"FROM scratch\nCOPY --from={context_name(name)} . /\n"))
        state = StageState("", scratch(self._platform), self._arguments.stage(None), self.plan.escape)
        state.epoch, state.buildkit = self.options.epoch, True
        work = StageWork(at, state, teller, solver)
        await self._do(work, plan.stages[0].commands[0])
        return state.image

    def _is_only_folder(self, name: str) -> bool:
        return bool(name) and self._is_folder(name) and self._given(name) is None

    def _is_folder(self, name: str) -> bool:
        return context_name(name) in self.options.named_folders

    def _is_named(self, name: str) -> bool:
        """Whether a context besides the main one has this name."""
        return self._given(name) is not None or context_name(name) in self.options.named_folders

    def _given(self, name: str) -> str | None:
        """The image of this build's platform that a caller gives in the place of `name`."""
        given, known = self.options.named_images, context_name(name)
        return given.get(f"{known}::{self._platform}", given.get(known))

    async def _named_image(self, name: str) -> BuildImage | None:
        """The image a context given by the caller puts in the place of `name`."""
        if not name or not self._is_named(name):
            return None
        found = self._given(name)
        if found is None:
            raise Unsupported(f"FROM {name}: a folder as a build context can be copied from, but is no base image yet")
        return await self._resolve(found, False, self._platform)

    async def _image(self, at: int, name: str) -> BuildImage:
        index = self.plan.stage_index(name)
        if 0 <= index < at:
            return await self._stages.image(index)
        if index == at:
            raise NotFound(f"invalid from flag value {name}: refers to current build stage")
        if (named := await self._named_image(name)) is not None:
            return named
        try:
            return await self._resolve(name, False, self._platform)
        except Error as error:
            raise NotFound(f"invalid from flag value {name}: {error}") from None


def context_name(name: str) -> str:
    """The name under which a caller gives a context in the place of an image or stage: familiar, without `:latest`."""
    try:
        return parse_reference(name).familiar().lower().removesuffix(":latest")
    except InvalidArgument:
        return name.lower()


def build_platform(text: str) -> Platform:
    """What a build is for; "" is the machine's own. Raises InvalidArgument, Unsupported for other systems."""
    platform = parse_platform(text) if text else host_platform()
    if platform.os != "linux":
        raise Unsupported(f"platform {text} is not supported: only images of linux are built")
    if platform.architecture == "arm" and not platform.variant:
        return Platform("linux", "arm", "v7")  # as docker takes it
    return platform


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
