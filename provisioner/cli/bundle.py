"""bundle: from flags to a folder with everything that hosts would fetch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provisioner.cli.console import out, say
from provisioner.cli.events import shown
from provisioner.cli.looking import connections_to, load
from provisioner.errors import Exit
from provisioner.plan.bundle import Manifest
from provisioner.rollout.bundling import make_bundle
from provisioner.rollout.locking import check_survey, read_lock, without_images
from provisioner.rollout.secrets import take_from_environment
from provisioner.rollout.survey import survey


def bundle(path: Path, hosts: Sequence[str], output: Path, *, json: bool) -> Exit:
    """Look at the hosts, plan them, fetch what they need."""
    fleet, recipes = load(path, hosts)
    environment = take_from_environment(fleet)
    lock = read_lock(fleet, recipes)
    with connections_to(fleet) as connections:
        with shown([host.name for host in fleet.hosts], None) as on_event:
            seen = survey(
                fleet, recipes, connections, on_event=on_event, compare=False, environment=environment,
                lock=without_images(lock),
            )  # fmt: skip
        check_survey(seen, recipes, images=False)
        manifest = make_bundle(seen, lock, connections, output, environment, say)
    out(manifest.model_dump_json(indent=1) if json else summary(manifest, output))
    return Exit.OK


def summary(manifest: Manifest, folder: Path) -> str:
    """What the bundle holds, a line each."""
    lines = [f"image {one.reference} for {one.platform}: {one.archive.path}" for one in manifest.images]
    lines += [f"weights of {one.repo} at {one.revision} ({one.commit[:12]}): {one.folder}" for one in manifest.models]
    lines += [f"{one.file} of {one.repo} at {one.revision}: {one.blob.path}" for one in manifest.plugins]
    lines += [f"packages for {one.system.words}: {one.folder}" for one in manifest.packages]
    size = sum(blob.size for blob in manifest.blobs()) / 2**30
    lines.append(
        f"{folder}: {len(manifest.blobs())} files, {size:.1f} GiB; use it with `provision apply --bundle {folder}`"
    )
    return "\n".join(lines)
