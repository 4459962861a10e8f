"""Stands in for a worker: a module that is imported quickly, in the process that is started."""

import time


def echo(connection, source, max_pixels):
    """Open nothing, and answer each order with its own bytes after a tenth of a second."""
    connection.send({"about": {"runtime": source.runtime}})
    while True:
        orders = connection.recv()
        time.sleep(0.1 * len(orders or []))
        connection.send(None if orders is None else [(200, order.data) for order in orders])
