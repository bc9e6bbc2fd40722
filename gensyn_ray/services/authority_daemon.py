"""The authority's process: the one process that can move credits.

    python -m gensyn_ray.services.authority_daemon HOME ADDRESS   HOME is written by `home.prepare`

Not defended here: a user that can read the home directory holds the network's key. Run the process
under a user of its own.
"""

import gc
import json
import os
import sys
from pathlib import Path

from gensyn_ray.domain.errors import GensynError
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.runtime import http_server
from gensyn_ray.runtime.address import parse_listen_address
from gensyn_ray.runtime.listening import listen
from gensyn_ray.runtime.wall_clock import now_ms
from gensyn_ray.services.authority import Authority
from gensyn_ray.services.home import (
    Config,
    Secrets,
    journal_of,
    load,
    remember_head,
    remembered_head,
)
from ledger.service.app import make_app
from ledger.storage.journal import JournalStore
from ledger.storage.opening import open_journal

TICK_MS = 50
FAILED_SYNC = 70
"""Exit code (EX_SOFTWARE)."""


def serve(
    home: Path,
    address: str,
    *,
    certificate: str | None = None,
    certificate_key: str | None = None,
) -> None:
    """Run until terminated. `address` is `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`.

    https needs the PEM files of a certificate and of its key. Raises `GensynError`.
    """
    config, secrets = load(home)
    listen_address = parse_listen_address(address, certificate=certificate, key=certificate_key)
    # Bound before the home is read or written: a second authority of this address ends here.
    with listen(listen_address) as listener:
        store = open_journal(journal_of(home, config))
        authority = _open(home, config, secrets, store)
        facts = {
            "network": config.network,
            "genesis": authority.genesis,
            "network_key": authority.public_key.hex(),
            "address": address,
        }
        (home / "network.json").write_text(json.dumps(facts))
        # The folded state lives as long as the process, so the garbage collector may skip it.
        gc.collect()
        gc.freeze()
        app = make_app(
            authority.submit, authority.read, authority.tick, tick_ms=TICK_MS, on_failure=_end
        )
        http_server.serve(app, listener)
    authority.stop()
    store.close()


def _open(home: Path, config: Config, secrets: Secrets, store: JournalStore) -> Authority:
    key = SigningKey(bytes.fromhex(secrets.network_seed))
    return Authority(
        config=config,
        secrets=secrets,
        store=store,
        clock=now_ms,
        remembered=remembered_head(home, key.public),
        remember=lambda note: remember_head(home, note),
    )


def _end(error: BaseException) -> None:
    # After a failed sync the disk's contents are unknown. A restart reads them again.
    print(f"authority ends: {error!r}", file=sys.stderr, flush=True)
    os._exit(FAILED_SYNC)


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]), sys.argv[2])
    except GensynError as error:
        print(f"gensyn-ray authority: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
