"""`gensyn-ray ledger`: run, check, export and read the books."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from gensyn_ray.cli.books import check_file, open_books, open_ledger, subject_of
from gensyn_ray.domain.errors import OperationError, UsageError
from gensyn_ray.domain.money import format_credits
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.queries.proofs import check_page
from gensyn_ray.services.home import journal_of, load
from ledger.core.journal import CorruptJournal, parse_entry
from ledger.export.flat import write_flat
from ledger.storage.opening import open_journal

app = App(name="ledger", help="Run, check and read the books.")

Ledger = Annotated[str, Parameter(help="Address of a running ledger (or GENSYN_LEDGER).")]
Journal = Annotated[Path | None, Parameter(help="A flat journal, instead of a running ledger.")]
Key = Annotated[str, Parameter(help="The network's public key, as hex.")]
CaFile = Annotated[str | None, Parameter(help="Certificates to trust, for an https ledger.")]
Flag = Annotated[bool, Parameter(negative=())]


@app.command
def serve(
    home: Path, address: str, *, tls_cert: Path | None = None, tls_key: Path | None = None
) -> None:
    """Run the authority of the network at HOME.

    Args:
        home: The authority's home directory.
        address: `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`.
        tls_cert: Certificate chain for https, PEM.
        tls_key: Its private key, PEM.
    """
    from gensyn_ray.services.authority_daemon import serve as serve_authority

    serve_authority(
        home,
        address,
        certificate=str(tls_cert) if tls_cert else None,
        certificate_key=str(tls_key) if tls_key else None,
    )


@app.command(name="verify")
def verify_journal(
    journal: Path, *, key: str, since: Path | None = None, draws: Flag = False
) -> None:
    """Check a flat journal offline: signatures, decisions, Merkle root, every byte.

    Args:
        journal: The flat journal.
        key: The network's public key, as hex.
        since: A checkpoint seen earlier; the journal must contain it.
        draws: Also check each order, batch, draw, referee call and ruling by the rules of
            settlement.
    """
    checked = check_file(journal, key, since=since, draws=draws).verified
    book = checked.journal.book
    print(
        f"{journal}: whole. {checked.head.size} entries, root {checked.head.root.hex()[:16]}, "
        f"{len(book.jobs)} jobs, balances sum to {book.balances.total_micro()}"
        + (", every draw is right" if draws else "")
    )


@app.command
def export(
    path: Path, *, home: Path, format: Literal["journal", "beancount", "parquet"] = "journal"
) -> None:
    """Write the books of the authority at HOME to PATH.

    Args:
        path: The file to write; for `parquet` a folder.
        home: The authority's home directory.
        format: `journal` is the flat journal that `verify` checks; `beancount` is text for
            `bean-check`; `parquet` holds postings and receipts.
    """
    config, hidden = load(home)
    key = SigningKey(bytes.fromhex(hidden.network_seed))
    store = open_journal(journal_of(home, config), read_only=True)
    if format == "journal":
        head = write_flat(store.read(), key, config.network, path)
        print(f"{path}: {head.size} entries; check it with: --key {key.public.hex()}")
        return
    entries = (parse_entry(line) for line in store.read())
    if format == "beancount":
        from ledger.export.beancount import write_beancount

        write_beancount(entries, path)
    else:
        from ledger.export.parquet import write_parquet

        write_parquet(entries, path)
    print(f"{path}: written")


@app.command
def balance(
    owner: str,
    *,
    ledger: Ledger = "",
    journal: Journal = None,
    key: Key = "",
    ca_file: CaFile = None,
) -> None:
    """The balance of each account of a party or a job."""
    found = open_books(ledger, journal, key, ca_file).read("statement", owner=owner)
    table = Table(title=f"{found['role']} {found['name']} ({found['standing']})")
    table.add_column("account")
    table.add_column("credits", justify="right")
    for one in found["accounts"]:
        table.add_row(one["account"], format_credits(one["amount_micro"]))
    Console().print(table)


@app.command
def history(
    owner: str,
    *,
    ledger: Ledger = "",
    journal: Journal = None,
    key: Key = "",
    ca_file: CaFile = None,
) -> None:
    """Every posting of a party or a job, newest last."""
    page = open_books(ledger, journal, key, ca_file).read("why", subject=owner)
    table = Table(title=owner)
    for name in ("entry", "what", "from", "to", "segment"):
        table.add_column(name)
    table.add_column("credits", justify="right")
    for one in page["entries"]:
        for post in one["postings"]:
            table.add_row(
                *(str(one["entry"]), post["memo"], post["debit"], post["credit"], post["slot"]),
                post["amount"],
            )
    Console().print(table)
    if page["left_out"]:
        print(f"{page['left_out']} older entries are left out: they are in the flat journal")


@app.command
def why(
    receipt: str,
    *,
    ledger: Ledger = "",
    journal: Journal = None,
    key: Key = "",
    ca_file: CaFile = None,
    json_output: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Why a segment was paid or not: every entry about it, each with its inclusion proof.

    Args:
        receipt: A slot (JOB/TASK/SEGMENT/ATTEMPT), a party, a job, or a file with a receipt.
        json_output: The page as JSON, proofs included: `check` proves it anywhere.
    """
    page = open_books(ledger, journal, key, ca_file).read("why", subject=subject_of(receipt))
    proven = _prove(page, key) if key else "give --key to prove it"
    if json_output:
        print(json.dumps(page, indent=2))
        return
    Console().print(_page_table(page))
    print(f"{len(page['entries'])} entries of the log: {proven}")


@app.command
def check(page: Path, *, key: str) -> None:
    """Prove a page that `why --json` wrote, from the network's key alone."""
    try:
        content = json.loads(page.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{page} is not a page: {error}") from None
    print(f"{page}: {_prove(content, key)}")


@app.command
def witness(
    *, home: Path, name: str, ledger: Ledger = "", key: str, ca_file: CaFile = None
) -> None:
    """Cosign the ledger's head, if it continues the one that this witness cosigned last.

    Args:
        home: Folder for the witness's key and the last cosigned head.
        name: The witness's name in the cosignature.
        key: The network's public key, as hex.
    """
    from gensyn_ray.cli.witness import cosign_once

    try:
        network_key = bytes.fromhex(key)
    except ValueError:
        raise UsageError("--key is the network's public key, as hex") from None
    print(cosign_once(home, open_ledger(ledger, ca_file), name, network_key), end="")


def _prove(page: Any, key: str) -> str:
    try:
        count = check_page(page, bytes.fromhex(key))
    except CorruptJournal as error:
        raise OperationError(f"the page does not hold: {error}") from None
    except ValueError:
        raise UsageError("--key is the network's public key, as hex") from None
    return f"{count} inclusion proofs hold under the network's signed head"


def _page_table(page: Any) -> Table:
    table = Table(title=page["subject"], show_lines=True)
    for name in ("entry", "by", "what", "postings"):
        table.add_column(name, overflow="fold")
    for one in page["entries"]:
        posts = [
            f"{post['amount']} {post['memo']}\n  {post['debit']}\n  -> {post['credit']}"
            for post in one["postings"]
        ]
        what = one["what"] or [one["operation"]]
        table.add_row(str(one["entry"]), one["by"], "\n".join(what), "\n".join(posts))
    return table
