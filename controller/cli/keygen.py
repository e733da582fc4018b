"""`ctl keygen`: the fleet's keys."""

import time

import typer

from controller.cli.context import open_home
from controller.cli.output import Format, Output, note, print_facts


def keygen(ctx: typer.Context, output: Output = Format.TABLE) -> None:
    """Make the release key, the controller key and the trust file of a fleet. Overwrites nothing.

    The release key signs what may run (bundles, deployments, pins): keep it on your own machine.
    The controller key signs which of it a device runs: copy it to where ctl serve runs.

    Example: ctl --fleet home keygen
    """
    from controller.audit import keep, new_entry  # noqa: PLC0415
    from controller.identity import whoami  # noqa: PLC0415
    from controller.signing import generate_keys, key_path  # noqa: PLC0415

    home = open_home(ctx)
    keys = generate_keys(home)
    made = new_entry(
        keys.fleet,
        "keys-changed",
        "keys-0",
        "the first keys of the fleet",
        by=whoami(),
        key_id=keys.of("release")[0].key_id,
        now_s=time.time(),
    )
    keep(home.audit_file, made)
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
