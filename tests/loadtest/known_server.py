"""A scoring server whose behaviour is known: ``python known_server.py MODE``; prints its port.

Modes: ``constant:MS`` (service time), ``stall:STALL_S:EVERY_S`` (answers nothing for STALL_S in every EVERY_S), ``nan``, ``version``,
``html``, ``rows``, ``status``, ``hang``, ``trickle`` (a byte every 50 ms), ``old`` (HTTP/1.0: no length, the connection's end is the
answer's), ``bare`` (no pages beside scoring). ``GET /truth`` answers the service times that the server itself measured.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

MODE, *NUMBERS = sys.argv[1].split(":")
GOOD = b'{"predictions":[1.5],"model_name":"known","model_version":"7","latency_ms":0.1}'
ANSWERS = {
    "nan": b'{"predictions":[NaN],"model_name":"known","model_version":"7","latency_ms":0.1}',
    "version": b'{"predictions":[1.5],"model_name":"known","model_version":"6","latency_ms":0.1}',
    "html": b"<html><body>It works!</body></html>",
    "rows": b'{"predictions":[1.5,2.5],"model_name":"known","model_version":"7","latency_ms":0.1}',
    "schema": b'{"predictions":[1.5]}',
}
SCHEMA = {"model_name": "known", "model_version": "7", "inputSignature": [{"name": "x", "type": "double", "required": True}]}
HEALTH = {"status": "ok", "model_name": "known", "model_version": "7", "versions": {"7": 100.0}}
SERVICE: list[float] = []
START = time.perf_counter()


class Known(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""

    def data_received(self, data):
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, rest = self.buffer.split(b"\r\n\r\n", 1)
            lines = head.lower().split(b"\r\n")
            length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self.serve(head)

    def serve(self, head):
        arrived = time.perf_counter()
        if head.startswith(b"GET"):
            page = head.split()[1]
            truth = {"p50_ms": statistics.median(SERVICE) * 1e3 if SERVICE else None, "calls": len(SERVICE)}
            if MODE == "bare":
                self.transport.close()
                return
            body = {b"/schema": SCHEMA, b"/health": HEALTH, b"/truth": truth}[page]
            self.answer(json.dumps(body).encode(), None)
        elif MODE == "constant":
            loop.call_later(float(NUMBERS[0]) / 1e3, self.answer, GOOD, arrived)
        elif MODE == "stall":
            stall, every = float(NUMBERS[0]), float(NUMBERS[1])
            into = (arrived - START) % every
            loop.call_later(stall - into, self.answer, GOOD, arrived) if into < stall else self.answer(GOOD, arrived)
        elif MODE == "hang":
            return
        elif MODE == "trickle":
            for i, byte in enumerate(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(GOOD), GOOD)):
                loop.call_later(0.05 * i, self.transport.write, bytes([byte]))
        elif MODE == "old":
            self.transport.write(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD[:20])
            loop.call_later(0.002, self.transport.write, GOOD[20:])
            loop.call_later(0.004, self.transport.close)
        else:
            self.answer(ANSWERS.get(MODE, GOOD), arrived, b"503 Busy" if MODE == "status" else b"200 OK")

    def answer(self, body, arrived, status=b"200 OK"):
        self.transport.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
        if arrived is not None:
            SERVICE.append(time.perf_counter() - arrived)


async def main():
    server = await loop.create_server(Known, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


loop = asyncio.new_event_loop()
loop.run_until_complete(main())
