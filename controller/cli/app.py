"""The `ctl` command: its global options, and one module per group of commands below them.

A command parses, calls and prints. What it needs beyond typer it imports when it runs: `ctl --help`
and shell completion must answer at once, so no module here imports numpy, an interpreter or MQTT.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from controller.cli import (
    audit,
    broker,
    broker_config,
    cascade,
    cascade_calibrate,
    cascade_eval,
    cascade_export,
    cascade_search,
    demo,
    deploy,
    deployment,
    device,
    device_record,
    device_roster,
    doctor,
    events,
    keygen,
    keys,
    model,
    model_advise,
    model_bench,
    model_convert,
    model_distill,
    model_eval,
    model_inspect,
    model_prune,
    model_qat,
    model_quantize,
    model_recipe,
    model_report,
    model_sensitivity,
    model_share,
    model_split,
    model_tie,
    model_wire,
    pins,
    plan,
    rollout,
    schedule,
    serve,
    signing,
    simulate,
    top,
)
from controller.cli.context import Globals
from controller.cli.exits import is_broken_pipe, report

BUILD, DEPLOY = "Build and sign", "Deploy"
SEE, PIN, RUN = "See", "Override the planner", "Run"
MEASURE, LIGHTEN, TRAIN = "Measure", "Make smaller", "Make smaller, with training"

_WITH_VALUE = frozenset({"--home", "--broker", "--fleet", "--key"})


class _Ctl(TyperGroup):
    """The root group: every error ends here, as one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own types are not public
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:
            if is_broken_pipe(error) or type(error).__module__.startswith("typer"):
                raise
            raise typer.Exit(report(error, debug=bool(ctx.params.get("debug")))) from error


app = typer.Typer(
    name="ctl",
    cls=_Ctl,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def with_globals_first(arguments: Sequence[str]) -> list[str]:
    """Return a command line whose global options stand before the command, as typer wants them.

    A person writes them where they come to mind: `ctl device ls --fleet home`. `--json` is short
    for `-o json`.
    """
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in _WITH_VALUE:
            front += [word, *islice(words, 1)]
        elif word == "--debug" or word.partition("=")[0] in _WITH_VALUE:
            front.append(word)
        elif word == "--json":
            rest.append("--output=json")
        else:
            rest.append(word)
    return [*front, *rest]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"ctl {version('sluice')}")
        raise typer.Exit


def _check_no_password(ctx: typer.Context, broker: str) -> None:
    """Refuse what `ps` would show to everybody; the environment is the user's own."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    source = ctx.get_parameter_source("broker")
    if urlsplit(broker).password and source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter(
            "no password on a command line, where `ps` shows it: put it into password_file of "
            "config.toml, or the URL into $SLUICE_BROKER",
            param_hint="--broker",
        )


@app.callback()
def _globals(
    ctx: typer.Context,
    *,
    home: Annotated[
        Path | None,
        typer.Option(envvar="SLUICE_HOME", help="Folder of keys, catalog and config."),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(envvar="SLUICE_BROKER", metavar="URL", help="mqtt://host:port or mqtts://."),
    ] = None,
    fleet: Annotated[
        str | None, typer.Option(envvar="SLUICE_FLEET", metavar="NAME", help="Which fleet.")
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="FILE", help="A private key elsewhere; repeatable."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    _show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run cascades of quantized sub-models on fleets of small devices.

    A first round: ctl keygen, ctl broker, ctl serve; ctl model add; ctl cascade build; ctl deploy.
    """
    if broker is not None and "@" in broker:
        _check_no_password(ctx, broker)
    ctx.obj = Globals(home, broker, fleet, tuple(key or ()), debug)


model.app.command("convert")(model_convert.convert)
model.app.command("inspect", rich_help_panel=MEASURE)(model_inspect.inspect)
model.app.command("bench", rich_help_panel=MEASURE)(model_bench.bench)
model.app.command("eval", rich_help_panel=MEASURE)(model_eval.evaluate)
model.app.command("wire", rich_help_panel=MEASURE)(model_wire.wire)
model.app.command("report", rich_help_panel=MEASURE)(model_report.report)
model.app.command("sensitivity", rich_help_panel=MEASURE)(model_sensitivity.measure)
model.app.command("advise", rich_help_panel=LIGHTEN)(model_advise.advise)
model.app.command("quantize", rich_help_panel=LIGHTEN)(model_quantize.quantize)
model.app.command("share", rich_help_panel=LIGHTEN)(model_share.share)
model.app.command("prune", rich_help_panel=LIGHTEN)(model_prune.prune)
model.app.command("split", rich_help_panel=LIGHTEN)(model_split.split)
model.app.command("distill", rich_help_panel=TRAIN)(model_distill.distill)
model.app.command("qat", rich_help_panel=TRAIN)(model_qat.qat)
model.app.command("tie", rich_help_panel=TRAIN)(model_tie.tie)
model.app.command("recipe", rich_help_panel=TRAIN)(model_recipe.recipe)
cascade.app.command("search")(cascade_search.search)
cascade.app.command("calibrate")(cascade_calibrate.calibrate)
cascade.app.command("eval")(cascade_eval.evaluate)
cascade.app.command("export")(cascade_export.export)
app.command(rich_help_panel=BUILD)(keygen.keygen)
app.add_typer(keys.app, name="keys", rich_help_panel=BUILD)
app.command(rich_help_panel=BUILD)(signing.sign)
app.command(rich_help_panel=DEPLOY)(signing.publish)
app.add_typer(model.app, name="model", rich_help_panel=BUILD)
app.add_typer(cascade.app, name="cascade", rich_help_panel=BUILD)
app.command(rich_help_panel=DEPLOY)(plan.plan)
app.command(rich_help_panel=DEPLOY)(deploy.deploy)
app.command(rich_help_panel=DEPLOY)(deployment.undeploy)
app.add_typer(rollout.app, name="rollout", rich_help_panel=DEPLOY)
app.add_typer(deployment.app, name="deployment", rich_help_panel=DEPLOY)
app.add_typer(schedule.app, name="schedule", rich_help_panel=DEPLOY)
app.add_typer(simulate.app, name="simulate", rich_help_panel=DEPLOY)
device.app.command("record")(device_record.record)
device.app.command("add")(device_roster.add)
device.app.command("accept")(device_roster.accept)
device.app.command("revoke")(device_roster.revoke)
device.app.command("rotate")(device_roster.rotate)
app.add_typer(device.app, name="device", rich_help_panel=SEE)
app.command(rich_help_panel=SEE)(top.top)
app.command(rich_help_panel=SEE)(events.events)
app.command(rich_help_panel=SEE)(audit.audit)
app.command(rich_help_panel=SEE)(doctor.doctor)
app.command(rich_help_panel=PIN)(pins.load)
app.command(rich_help_panel=PIN)(pins.unload)
app.command(rich_help_panel=PIN)(pins.threads)
app.command(rich_help_panel=PIN)(pins.unpin)
app.command(rich_help_panel=RUN)(serve.serve)
broker.app.command("config")(broker_config.configure)
broker.app.command("identity")(broker_config.identity)
broker.app.command("revoke")(broker_config.revoke)
app.add_typer(broker.app, name="broker", rich_help_panel=RUN)
app.command(rich_help_panel=RUN)(demo.demo)
