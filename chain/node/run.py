"""Runs one node process: `headrace node run --config node.toml`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import uvloop

from chain.config import NodeConfig, load_node_config
from chain.crypto import Verifier
from chain.crypto.batches import checker_of
from chain.crypto.verify_pool import VerifyPool
from chain.errors import ConfigError, HeadraceError, InvariantError
from chain.model.genesis import Genesis, check_genesis
from chain.model.genesis_json import load_genesis
from chain.model.signing import ValidatorKey
from chain.net import DuplicateValidatorError
from chain.node.archive import load_journal, open_node_store
from chain.node.members import load_keys
from chain.node.node import Node
from chain.node.services import Services
from chain.node.surroundings import Surroundings
from chain.rpc.limits import RpcLimits
from chain.rpc.server import RpcServer

COLLECT_EVERY: Final = 50_000  # more objects made than freed; the node makes few cycles, and a look costs milliseconds
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INVARIANT: Final = 3  # our bug, or a chain that must not go on: do not restart blindly
EXIT_DUPLICATE: Final = 4  # another process runs with this node's key

log = structlog.get_logger("headrace.node")


def run_node(config_path: Path) -> int:
    """Until SIGTERM or SIGINT. SIGHUP: the TLS files are read again.

    0: stopped as asked; 1: could not run; 3: a promise broke, see the log; 4: another process has its key.
    """
    try:
        config = load_node_config(config_path)
        set_up_logging(config.log.level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(config))
    except HeadraceError as error:
        sys.stderr.write(f"headrace node: {error}\n")
        return EXIT_FAILED


def set_up_logging(level: str) -> None:
    """Structured records, one JSON object a line, on standard output."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )


async def _run(config: NodeConfig) -> int:
    genesis = load_genesis(config.path("genesis"))
    check_genesis(genesis)
    keys = load_keys(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # before there is a node: the files are read at its start
    if not config.is_pipelined or not config.ablation.fsync:
        log.warning("ablation", pipeline=config.ablation.pipeline, fsync=config.ablation.fsync)
    with _checking(config) as around:
        return await _run_nodes(config, genesis, keys, stop, around)


@contextlib.contextmanager
def _checking(config: NodeConfig) -> Iterator[Surroundings]:
    """Who checks signatures, as long as the process runs."""
    count, kernel = config.crypto.threads, config.crypto.kernel
    if config.crypto.checker == "process":
        pool = VerifyPool(count, kernel)
        log.info("signature_checks", by="processes", processes=count)
        try:
            yield Surroundings(verifier=partial(Verifier, check=pool.check), check_cpu_us=lambda: pool.cpu_us)
        finally:
            pool.close()
        return
    checker = checker_of(kernel)
    log.info("signature_checks", by=checker.name, threads=count)
    yield Surroundings(verifier=partial(Verifier, check=checker.check, batching=checker.batching))


async def _run_nodes(
    config: NodeConfig, genesis: Genesis, keys: Sequence[ValidatorKey], stop: asyncio.Event, around: Surroundings
) -> int:
    """A node, and another one each time that a chain was loaded as a snapshot, or a key of a set in force."""
    loop = asyncio.get_running_loop()
    while True:
        store = open_node_store(config.path("data"), genesis, synced=config.ablation.fsync)
        node = Node(
            config=config, genesis=genesis, key=keys[0], next_key=keys[1] if len(keys) > 1 else None, store=store,
            records=load_journal(store), around=around,
        )  # fmt: skip
        loop.add_signal_handler(signal.SIGHUP, _reload, node)
        code = await _serve(node, stop)
        if code != EXIT_OK or stop.is_set() or not node.joined.done():
            return code
        keys = load_keys(config)


async def _serve(node: Node, stop: asyncio.Event) -> int:
    config = node.config
    limits = RpcLimits(connections_max=config.rpc.connections_max)
    server = RpcServer(
        Services(node), host=config.rpc.host, port=config.rpc.port, limits=limits, on_bug=node.report_bug
    )
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _on_loop_error(node, context))
    asked = asyncio.ensure_future(stop.wait())
    code = EXIT_OK
    try:
        await node.start()
        await server.start()
        calm_collector()
        log.info(
            "node_started",
            node=config.node.name,
            chain=node.chain_id.hex(),
            height=node.last_header.height,
            rpc=f"{config.rpc.host}:{config.rpc.port}",
            gateway=f"{config.gateway.host}:{config.gateway.port}",
        )
        await asyncio.wait((asked, node.failed, node.joined), return_when=asyncio.FIRST_COMPLETED)
        if node.failed.done() and (error := node.failed.exception()) is not None:
            code = _report_failure(node, error)
        else:
            log.info("node_stopping", height=node.last_header.height)
    except OSError as error:
        raise ConfigError(f"rpc {config.rpc.host}:{config.rpc.port}: cannot listen there: {error.strerror}") from None
    finally:
        asked.cancel()
        try:
            await server.stop()
        finally:
            await node.stop()
    log.info("node_stopped", exit_code=code)
    return code


def calm_collector() -> None:
    """What is here now stays for the life of the process: the collector of cycles need not look at it again, and at the
    rest less often. What is freed by counting references, nearly everything, does not wait for it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 100)


def _report_failure(node: Node, error: BaseException) -> int:
    """The last events of the core go to the log: they are what a maintainer needs first."""
    log.critical(
        "node_failed",
        error=f"{type(error).__name__}: {error}",
        height=node.last_header.height,
        story={height: node.replica.story(height) for height in node.replica.in_flight},
        exc_info=(type(error), error, error.__traceback__),
    )
    if isinstance(error, DuplicateValidatorError):
        return EXIT_DUPLICATE
    return EXIT_INVARIANT if isinstance(error, InvariantError) else EXIT_FAILED


def _reload(node: Node) -> None:
    """SIGHUP: renewed certificates, without losing a connection."""
    try:
        node.reload_certificates()
        log.info("certificates_reloaded", expires=str(node.members.certificate_expires()))
    except ConfigError as error:
        log.error("certificates_not_reloaded", error=str(error))


def _on_loop_error(node: Node, context: dict[str, object]) -> None:
    """What escaped a callback: our bug stops the node, trouble of the operating system with a socket does not (that of
    our databases comes as a StoreError, through a task)."""
    error = context.get("exception")
    if isinstance(error, OSError):
        return
    log.error("loop_error", message=str(context.get("message")), error=repr(error))
    if isinstance(error, Exception):
        node.fail(error)
