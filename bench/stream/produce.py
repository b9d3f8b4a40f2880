"""Writes orders to a topic, as many a second as are asked for, or as fast as it can (`--rate 0`)."""

from __future__ import annotations

import argparse
import time

from kafka import KafkaProducer


def is_bad(number: int) -> bool:
    """One order in a hundred has an amount that is not positive."""
    return number % 100 == 7


def order(number: int) -> bytes:
    """An order as JSON."""
    amount = "-1.00" if is_bad(number) else f"{number % 50_000 / 100 + 1:.2f}"
    return (
        f'{{"order_id": {number}, "customer_id": {number * 7919 % 1000}, "amount": {amount}, '
        f'"country": "C{number % 40}", "note": "the order with the number {number}"}}'
    ).encode()


def main() -> None:
    """Reads the command line; a burst is sent every 5 ms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=int, default=0)
    arguments = parser.parse_args()
    patient = {"linger_ms": 50, "batch_size": 1 << 18} if arguments.rate == 0 else {"linger_ms": 0}
    producer = KafkaProducer(bootstrap_servers=arguments.servers, acks=1, **patient)
    start = time.perf_counter()
    for number in range(arguments.count):
        if arguments.rate and number % max(arguments.rate // 200, 1) == 0:
            ahead = number / arguments.rate - (time.perf_counter() - start)
            if ahead > 0:
                time.sleep(ahead)
        producer.send(arguments.topic, order(number))
    producer.flush()
    producer.close()
    taken = time.perf_counter() - start
    print(f"{arguments.count} records in {taken:.1f} s")


if __name__ == "__main__":
    main()
