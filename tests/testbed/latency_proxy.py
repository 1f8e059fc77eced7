"""A TCP proxy that delays every byte by half a round trip each way: `python3 -m testbed.latency_proxy ...`.

Runs as a process of its own, so that it does not compete with a test's threads. It does not limit throughput beyond
one window per connection, as a long link does.
"""

import asyncio
import collections
import sys

_CHUNK = 256 * 1024
# Bytes in flight per connection and direction; about Linux's default maximum for a receive window.
WINDOW = 6 * 1024 * 1024


async def main(target_host, target_port, rtt_ms):
    half = float(rtt_ms) / 2000

    async def serve(reader, writer):
        # The client's handshake with us was instant: connecting through a real link takes one round trip.
        await asyncio.sleep(2 * half)
        try:
            far_reader, far_writer = await asyncio.open_connection(target_host, int(target_port), limit=_CHUNK)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, far_writer, half), _pump(far_reader, writer, half))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_CHUNK, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _pump(reader, writer, delay):
    """Copies one direction; each chunk leaves `delay` seconds after it came."""
    loop = asyncio.get_running_loop()
    waiting = collections.deque()
    changed = asyncio.Condition()
    state = {"bytes": 0}

    async def receive():
        while True:
            try:
                chunk = await reader.read(_CHUNK)
            except OSError:
                chunk = b""
            async with changed:
                waiting.append((loop.time() + delay, chunk))
                state["bytes"] += len(chunk)
                changed.notify_all()
                await changed.wait_for(lambda: state["bytes"] < WINDOW)
            if not chunk:
                return

    async def send():
        while True:
            async with changed:
                await changed.wait_for(lambda: waiting)
                due, chunk = waiting.popleft()
            await asyncio.sleep(max(0, due - loop.time()))
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
            async with changed:
                state["bytes"] -= len(chunk)
                changed.notify_all()

    receiver = asyncio.create_task(receive())
    try:
        await send()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()
    finally:
        # When the far side is gone nobody may wait for this side's data.
        if writer.transport.is_closing():
            receiver.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
