"""Dealing the rows of a step to ranks by what their attention costs. How rows are packed stands in `arm.training.plan`."""


def deal(costs: list[int], num_ranks: int) -> list[list[int]]:
    """Deal rows to ranks, nobody more than the others' number rounded up, at about equal cost: dearest first, each to
    the cheapest rank with room.

    costs [9 1 5 5], 2 ranks  ->  [[0, 1], [2, 3]]        costs [9 1 5], 2 ranks  ->  [[0], [1, 2]]
    """
    share = -(-len(costs) // num_ranks)
    hands: list[list[int]] = [[] for _ in range(num_ranks)]
    totals = [0] * num_ranks
    for row in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        rank = min((r for r in range(num_ranks) if len(hands[r]) < share), key=lambda r: (totals[r], r))
        hands[rank].append(row)
        totals[rank] += costs[row]
    return [sorted(hand) for hand in hands]
