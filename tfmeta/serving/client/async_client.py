"""gRPC client for asyncio."""

import asyncio
from typing import Any

from tfmeta.serving.client import grpc_messages
from tfmeta.serving.client.base_client import BaseClient
from tfmeta.serving.client.calls import PredictCall, PredictReply, Sleep, StatusCall, StatusReply
from tfmeta.serving.client.deadline import Deadline
from tfmeta.serving.client.operations import Operation
from tfmeta.serving.request_error import RequestError


class AsyncClient(BaseClient):
    """Calls a server over gRPC in an event loop (grpc.aio); every call of `BaseClient` is awaited.

    Example:
        async with AsyncClient("127.0.0.1:8500", model="movies") as client:
            first, second = await asyncio.gather(client.score(candidates=["p1"]), client.score(candidates=["p2"]))

    Args:
      address: `host:port` of the gRPC endpoint, or anything that gRPC resolves.
      arguments: `model`, and `options` or single fields of `ClientOptions`.
    """

    def __init__(self, address: str, **arguments):
        super().__init__(address, **arguments)
        import grpc

        self._grpc, self._channel, self._methods = grpc, None, {}
        self._sleep = asyncio.sleep

    async def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def _run(self, operation: Operation, timeout: float | None) -> Any:
        deadline = Deadline(self.options.timeout if timeout is None else timeout, clock=self._clock)
        reply, error = None, None
        while True:
            try:
                asked = operation.send(reply) if error is None else operation.throw(error)
            except StopIteration as stop:
                return stop.value
            reply, error = None, None
            if isinstance(asked, Sleep):
                await self._sleep(max(0.0, min(asked.seconds, deadline.left())))
                continue
            try:
                reply = await self._send_all(asked, deadline)
            except RequestError as failed:
                error = failed

    async def _send_all(self, calls: list, deadline: Deadline) -> list:
        if len(calls) == 1:
            return [await self._attempt(calls[0], deadline)]
        slots = asyncio.Semaphore(self.options.parallel)

        async def one(call):
            async with slots:
                return await self._attempt(call, deadline)

        tasks = [asyncio.ensure_future(one(call)) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _attempt(self, call: PredictCall | StatusCall, deadline: Deadline) -> PredictReply | StatusReply:
        attempt = 1
        while True:
            try:
                timeout = deadline.remaining()
                with self._telemetry.span(call, attempt) as (headers, learned):
                    reply = await self._send(call, timeout, [*self.options.call_headers(), *headers])
                    learned["tfmeta.version"] = getattr(reply, "version", None)
                    return reply
            except RequestError as error:
                wait = self.options.retry.delay(error.code, attempt=attempt, remaining=deadline.left(), rng=self._rng)
                if wait is None:
                    raise
            await self._sleep(wait)
            attempt += 1

    async def _send(self, call: PredictCall | StatusCall, timeout: float, headers: list[tuple[str, str]]
                    ) -> PredictReply | StatusReply:
        if self._channel is None:
            # Here rather than at the start: a channel belongs to the event loop that runs when it is made.
            options, tls = grpc_messages.channel_options(self.options), self.options.tls
            self._channel = (self._grpc.aio.insecure_channel(self.address, options=options) if tls is None else
                             self._grpc.aio.secure_channel(self.address, tls.grpc_credentials(), options=options))
            self._methods = grpc_messages.methods(self._channel)
        try:
            response = await self._methods[type(call)](grpc_messages.encode(call), timeout=timeout, metadata=headers)
        except self._grpc.RpcError as error:
            raise grpc_messages.to_error(error) from None
        return grpc_messages.decode(response)
