"""The best one-to-one assignment of rows to columns. Pure."""

import numpy as np
from numpy.typing import NDArray


def best_assignment(costs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return for each row the column that makes the sum of costs least, each column once.

    Shortest augmenting paths with dual prices (Jonker and Volgenant, "A shortest augmenting path
    algorithm for dense and sparse linear assignment problems", 1987), O(n^3) in numpy's steps of n.

    Args:
        costs: [n, n], finite.
    """
    count = len(costs)
    row_prices, column_prices = np.zeros(count), costs.min(axis=0)
    row_of = np.full(count, -1)
    rows, columns = np.unique(costs.argmin(axis=0), return_index=True)
    row_of[columns] = rows  # a column's cheapest row, where no other column has it already
    for first in np.setdiff1d(np.arange(count), rows):
        distance = np.full(count, np.inf)
        came_from = np.full(count, -1)
        seen = np.zeros(count, bool)
        row, reached, last = first, 0.0, -1
        while True:
            through = reached + costs[row] - row_prices[row] - column_prices
            nearer = ~seen & (through < distance)
            distance[nearer], came_from[nearer] = through[nearer], last
            last = int(np.where(seen, np.inf, distance).argmin())
            reached = float(distance[last])
            seen[last] = True
            if row_of[last] < 0:
                break
            row = int(row_of[last])
        done = seen & (row_of >= 0)
        row_prices[row_of[done]] += reached - distance[done]
        row_prices[first] += reached
        column_prices[done] -= reached - distance[done]
        while came_from[last] >= 0:
            row_of[last], last = row_of[came_from[last]], int(came_from[last])
        row_of[last] = first
    assigned: NDArray[np.intp] = np.argsort(row_of).astype(np.intp)
    return assigned
