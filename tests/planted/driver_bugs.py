"""Bugs in the driver and in sync."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug

ORDER: Final = "chain/pipeline/order.py"
STORE_STAGE: Final = "chain/pipeline/store.py"
FETCH: Final = "chain/sync/blocks.py"
CHECKING: Final = "chain/sync/checking.py"
DOWNLOAD: Final = "chain/sync/download.py"
PROPOSALS: Final = "chain/sync/proposals.py"
SERVER: Final = "chain/sync/server.py"

DRIVER: Final = (
    Bug(
        "a vote leaves while its record is being written",
        "nothing behind a Persist leaves before it is durable",
        ORDER,
        "                await loop.run_in_executor(self._journal_thread, self._write, records, proposals)\n",
        "                writing = loop.run_in_executor(self._journal_thread, self._write, records, proposals)\n"
        "                writing.add_done_callback(lambda done: done.exception())\n",
        "",
    ),
    Bug(
        "a vote leaves before its record is written",
        "nothing behind a Persist leaves before it is durable",
        ORDER,
        "                while not isinstance(effects[done], Persist):  # what stands",
        "                while done < len(effects):  # what stands",
        "",
    ),
    Bug(
        "records are written without the bodies",
        "the proposal and all its bodies are durable before the prepare vote",
        ORDER,
        "for record in records if isinstance(record, ProposalRecord)]",
        "for record in records if isinstance(record, VoteRecord)]",
        "",
    ),
    Bug(
        "only the first record of a batch is written",
        "one synced write covers all records that piled up",
        ORDER,
        "            self._journal.write(records, proposals)\n",
        "            self._journal.write(records[:1], proposals)\n",
        "",
    ),
    Bug(
        "a message with a bad signature reaches the core",
        "the core takes only what is verified",
        ORDER,
        "                if all(verdicts[first:at]):\n",
        "                if any([True, *verdicts[first:at]]):\n",
        "",
    ),
    Bug(
        "the verdict on one message is taken for another's",
        "the core takes only what is verified",
        ORDER,
        "                first, at = at, at + len(message.items)\n",
        "                first, at = at, at + 1\n",
        "",
    ),
    Bug(
        "a sender's frames pile up without end",
        "each sender has a bounded inbox",
        ORDER,
        "        while len(self.frames) > FRAMES_PENDING_MAX or self.size > FRAME_BYTES_PENDING_MAX:\n",
        "        while not self.frames:\n",
        "",
    ),
    Bug(
        "one sender is heard before all others",
        "one sender after the other",
        ORDER,
        "            taken = [(peer, frame) for peer, inbox in self._frames.items() if (frame := "
        "inbox.take()) is not None]\n",
        "            taken = [\n"
        "                (peer, frame)\n"
        "                for peer, inbox in list(self._frames.items())\n"
        "                for frame in [inbox.take() for _ in list(inbox.frames)]\n"
        "                if frame is not None\n"
        "            ]\n",
        "",
    ),
    Bug(
        "a halted node goes on sending",
        "a promise that broke stops the node",
        ORDER,
        "        if self._halted:\n            return\n        match effect:\n",
        "        match effect:\n",
        "",
    ),
    Bug(
        "an armed timer leaves its predecessor running",
        "one timer of each kind",
        ORDER,
        "        handle = self._timers.pop(timer, None)\n        if handle is not None:\n"
        "            handle.cancel()\n        delay",
        "        delay",
        "",
    ),
    Bug(
        "blocks are stored out of order",
        "blocks are stored strictly by height",
        STORE_STAGE,
        "                if block.executed.header.height != self._last + 1:\n",
        "                if block.executed.header.height <= self._last:\n",
        "",
    ),
    Bug(
        "a block is stored with a certificate of another header",
        "a block is stored with its certificate",
        STORE_STAGE,
        "        if header_hash(header) != block.certificate.digest:\n",
        "        if not block.certificate.digest:\n",
        "",
    ),
    Bug(
        "a block counts as stored before it is",
        "certified is told when the block is durable",
        STORE_STAGE,
        "            await loop.run_in_executor(self._thread, self._write, blocks)\n            end_us = now_us()\n",
        "            self._stored(blocks[:0])\n            self._stored(blocks)\n"
        "            await loop.run_in_executor(self._thread, self._write, blocks)\n            end_us = now_us()\n",
        "",
    ),
)

SYNC: Final = (
    Bug(
        "a fetched block's certificate is not checked",
        "certificates are checked at every entrance: sync",
        CHECKING,
        "            items += self._certificate_items(certificate, validators)\n",
        "            pass\n",
        "",
    ),
    Bug(
        "an empty block's certificate is not checked",
        "certificates are checked at every entrance: empty blocks too",
        CHECKING,
        "            items += self._certificate_items(certificate, validators)\n",
        "            items += self._certificate_items(certificate, validators) if transactions else []\n",
        "",
    ),
    Bug(
        "a fetched block may be of another height",
        "blocks belong to the heights asked for",
        CHECKING,
        "        if header.height != height or proposal.height != height or certificate.height != height:\n",
        "        if proposal.height != header.height or certificate.height != header.height:\n",
        "",
    ),
    Bug(
        "a fetched block's certificate may be of another header",
        "header and certificate belong together",
        CHECKING,
        "        if certificate.digest != header_hash(header) or header.proposal_digest != digest:\n",
        "        if header.proposal_digest != digest:\n",
        "",
    ),
    Bug(
        "a fetched block may come with another proposal",
        "header and proposal belong together",
        CHECKING,
        "        if certificate.digest != header_hash(header) or header.proposal_digest != digest:\n",
        "        if certificate.digest != header_hash(header):\n",
        "",
    ),
    Bug(
        "fetched bodies' signatures are not checked",
        "every body's signature is checked",
        CHECKING,
        "        items = [signature_item(transaction) for transaction in transactions]\n",
        "        items = [signature_item(transaction) for transaction in transactions[:0]]\n",
        "",
    ),
    Bug(
        "bodies need not be the proposal's",
        "bodies are exactly the proposal's transactions",
        PROPOSALS,
        "        if transaction.hash != transaction_hash:\n",
        "        if not transaction_hash:\n",
        "",
    ),
    Bug(
        "a peer that sends nothing is asked for ever",
        "blocks come from one source after the other",
        DOWNLOAD,
        "            if not state.failures:\n"
        "                state.last = min(state.last, first - 1)  # it has less than it said\n",
        "",
        "",
        is_liveness=True,
    ),
    Bug(
        "a peer's bad block is not held against it",
        "bad input is told to whoever sent it",
        DOWNLOAD,
        '            self.refuse(source, f"{self._name}_{error.code}: {error.message}")\n',
        "            state.failures += 1\n",
        "",
    ),
    Bug(
        "an answer may be as long as its sender likes",
        "blocks come at most 64 an answer",
        FETCH,
        ".blocks[: last - first + 1], first)",
        ".blocks, first)",
        "",
    ),
    Bug(
        "a proposal with too many transactions gets a vote",
        "a fresh proposal is limited by count",
        PROPOSALS,
        "        if wanted.proposal.count > self._parameters.block_transactions_max:\n",
        "        if wanted.proposal.count > 2 * self._parameters.block_transactions_max:\n",
        "",
    ),
    Bug(
        "a proposal with too many bytes gets a vote",
        "a fresh proposal is limited by bytes",
        PROPOSALS,
        "for transaction in transactions) > limits.block_bytes_max:",
        "for transaction in transactions) > 2 * limits.block_bytes_max:",
        "",
    ),
    Bug(
        "a proposal with too much gas gets a vote",
        "a fresh proposal is limited by declared gas",
        PROPOSALS,
        "for transaction in transactions) > limits.block_gas_max:",
        "for transaction in transactions) > 2 * limits.block_gas_max:",
        "",
    ),
    Bug(
        "a proposal with an executed transaction gets a vote",
        "no hash of a fresh proposal is executed",
        PROPOSALS,
        "        if any(self._index.executed([transaction.hash for transaction in transactions])):\n",
        "        if all(self._index.executed([transaction.hash for transaction in transactions])) and transactions:\n",
        "",
    ),
    Bug(
        "a proposal with a transaction of another live one gets a vote",
        "no hash of a fresh proposal is in another live one",
        PROPOSALS,
        "            if holder is not None and holder != wanted.digest:\n",
        "            if holder is not None and holder == wanted.digest:\n",
        "",
    ),
    Bug(
        "a proposal with an expired transaction gets a vote",
        "an expiry lies between the height and lifetime_max above it",
        PROPOSALS,
        "            if not wanted.height <= transaction.body.expiry <= wanted.height + limits.lifetime_max:\n",
        "            if not transaction.body.expiry <= wanted.height + limits.lifetime_max:\n",
        "",
    ),
    Bug(
        "a proposal with a transaction that lives too long gets a vote",
        "an expiry lies between the height and lifetime_max above it",
        PROPOSALS,
        "            if not wanted.height <= transaction.body.expiry <= wanted.height + limits.lifetime_max:\n",
        "            if not wanted.height <= transaction.body.expiry:\n",
        "",
    ),
    Bug(
        "bodies that were asked for are taken unsigned",
        "each signature has been checked once before the vote",
        PROPOSALS,
        "        if not all(await self._verifier.verify([signature_item(transaction) for transaction in "
        "transactions])):\n",
        "        if not all([True for _ in transactions]):\n",
        "",
    ),
    Bug(
        "bodies of another chain are taken",
        "a transaction binds its chain id",
        PROPOSALS,
        "            if transaction.body.chain_id != self._chain_id:\n",
        "            if not transaction.body.chain_id:\n",
        "",
    ),
    Bug(
        "a required proposal is taken whatever its digest",
        "missing bodies are fetched by hash",
        PROPOSALS,
        "                    if proposal_digest(proposal) != wanted.digest:\n",
        "                    if not wanted.digest:\n",
        "",
    ),
    Bug(
        "a required proposal is asked of one node only",
        "missing bodies are fetched from those who prepared it",
        PROPOSALS,
        "            for source in wanted.sources:\n                try:\n                    answer",
        "            for source in wanted.sources[:1]:\n                try:\n                    answer",
        "",
        is_liveness=True,
    ),
    Bug(
        "what must be had stays what may be refused",
        "a proposal that is ordered is obtained without being judged",
        PROPOSALS,
        "            if not open_task[0].fresh or wanted.fresh:\n                return\n",
        "            if not open_task[0].fresh or wanted.fresh or wanted.digest:\n                return\n",
        "",
        is_liveness=True,
    ),
    Bug(
        "an answer leaves out what is not here",
        "blocks of an answer are consecutive",
        SERVER,
        "            if block is None:\n"
        "                break\n"
        "            size",
        "            if block is None:\n"
        "                continue\n"
        "            size",
        "",
    ),
    Bug(
        "an answer may be longer than a message",
        "one message-size constant for every layer",
        SERVER,
        "            if blocks and size > ANSWER_BYTES_MAX:\n                break\n",
        "",
        "",
    ),
    Bug(
        "a request may ask for any number of bodies",
        "at most 131,072 hashes a request",
        SERVER,
        "        if rest or count > HASHES_PER_REQUEST_MAX:\n",
        "        if rest:\n",
        "",
    ),
)
