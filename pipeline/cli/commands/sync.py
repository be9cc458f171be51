"""The command `sync`."""

from pathlib import Path

import click

from pipeline.cli.options import root_option, wait_option
from pipeline.ending import catch_signals
from pipeline.errors import InputError


@click.command("sync")
@wait_option
@root_option
def sync(wait: float, root: Path) -> None:
    """Send the tracking server what trainings said while it was away."""
    from pipeline.cli.selection import send_all
    from pipeline.registry.register import DELIVERIES
    from pipeline.tracking import runs
    from pipeline.tracking.journal import Journal, journals
    from pipeline.tracking.schema import PARENTS
    from pipeline.tracking.sender import Sender

    catch_signals()
    # A study's run before those that belong to it, and what was begun first before the rest.
    found = sorted(journals(root), key=lambda entry: (entry[1]["kind"] not in PARENTS, entry[1]["began"]))
    sent: list[str] = []
    with Sender(DELIVERIES) as sender:
        for folder, about in found:
            try:
                journal = Journal(folder, doing=f"{about['name']} is being trained")
            except InputError as error:
                click.echo(str(error))
                continue
            if journal.all_sent:
                journal.close()
                continue
            if not journal.ended:
                # Its process was killed: it can be gone on with, but nobody does so now.
                runs.end(journal, "KILLED")
            sent.append(f"{about['name']} to {about['tracking_uri']}")
            sender.add(journal)
            sender.leave(journal)
        send_all(sender, wait)
    click.echo("\n".join([f"Sent: {text}." for text in sent]) or "Nothing is left to send.")
