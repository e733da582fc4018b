"""`ctl keygen`: the fleet's keys."""

import typer

from controller.cli.context import open_home
from controller.cli.output import Format, Output, note, print_facts


def keygen(ctx: typer.Context, output: Output = Format.TABLE) -> None:
    """Make the release key, the controller key and the trust file of a fleet. Overwrites nothing.

    The release key signs what may run (bundles, deployments, pins): keep it on your own machine.
    The controller key signs which of it a device runs: copy it to where ctl serve runs.

    Example: ctl --fleet home keygen
    """
    from controller.signing import generate_keys, key_path  # noqa: PLC0415

    home = open_home(ctx)
    keys = generate_keys(home)
    facts = {
        "fleet": keys.fleet,
        "release_key": key_path(home, "release"),
        "controller_key": key_path(home, "controller"),
        "trust": home.trust_file,
        "keys": keys.keys,
    }
    shown = [
        ("Fleet", keys.fleet),
        ("Release key", facts["release_key"]),
        ("Controller key", facts["controller_key"]),
        ("Trust file", home.trust_file),
    ]
    print_facts(shown, output, facts)
    note(
        f"Copy {home.trust_file} to every device (agent.toml: trust = ...). "
        "The keys stay private: whoever has the release key can run models on every device."
    )
