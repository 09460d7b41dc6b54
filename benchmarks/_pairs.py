"""Run ours and a named peer side by side in one process, in turn, and print the ratio with its spread.

ours   259,000/s    peer   41,000/s    ratio 6.3 (5.9 to 6.6, 7 rounds)
"""

import statistics
import time
from collections.abc import Callable


def compare(
    title: str,
    ours: Callable[[], int],
    peers: dict[str, Callable[[], int]],
    rounds: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Each callable does its work once and returns how many units it did; the first round warms up and is left out.

    `time.process_time` as the clock leaves out what other processes of a busy machine take: for work without waiting.
    """
    rates: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
    for round_index in range(rounds + 1):
        for name, work in {"ours": ours, **peers}.items():
            started = clock()
            units = work()
            if round_index:
                rates[name].append(units / (clock() - started))
    print(f"{title}: ours {statistics.median(rates['ours']):,.0f}/s")
    for name in peers:
        ratios = sorted(mine / theirs for mine, theirs in zip(rates["ours"], rates[name], strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}, {rounds} rounds"
        print(f"  {name} {statistics.median(rates[name]):,.0f}/s, ratio {statistics.median(ratios):.2f} ({spread})")
