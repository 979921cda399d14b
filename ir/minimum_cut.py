"""The minimum cut of a network: the cheapest set of edges without which the sink is out of the source's reach.

As much as flows at most from the source to the sink has to flow through any such set (Ford and Fulkerson, 1956).
The flow is found by Dinic's algorithm ("Algorithm for solution of a problem of maximum flow in networks with power
estimation", 1970): paths of one length at a time, shortest first.
"""

from __future__ import annotations

from collections import deque

SOURCE, SINK = 0, 1
UNLIMITED = 1 << 62


class Network:
    """Nodes are numbers, the first two of them :data:`SOURCE` and :data:`SINK`; edges have capacities.

    >>> network = Network()
    >>> a, b = network.node(), network.node()
    >>> for tail, head, capacity in [(SOURCE, a, 5), (a, b, 2), (b, SINK, 7), (a, SINK, 1)]:
    ...     network.connect(tail, head, capacity)
    >>> flow, side = network.minimum_cut()
    >>> flow, sorted(side)
    (3, [1, 3])
    """

    def __init__(self) -> None:
        self._edges: list[list[int]] = [[], []]  # of each node, numbers of edges; an edge's reverse is its number ^ 1
        self._heads: list[int] = []
        self._capacities: list[int] = []  # what is left of them

    def node(self) -> int:
        """The number of a new node."""
        self._edges.append([])
        return len(self._edges) - 1

    def connect(self, tail: int, head: int, capacity: int = UNLIMITED) -> None:
        """An edge from ``tail`` to ``head``."""
        for start, end, amount in ((tail, head, capacity), (head, tail, 0)):
            self._edges[start].append(len(self._heads))
            self._heads.append(end)
            self._capacities.append(amount)

    def minimum_cut(self) -> tuple[int, set[int]]:
        """What flows, and the nodes on the sink's side of the cut; of several minimum cuts, the nearest to the sink.

        Raises ``ValueError`` where a path of unlimited edges leads from the source to the sink.
        """
        flow = 0
        while (levels := self._levels())[SINK] >= 0:
            flow += self._saturate(levels)
            if flow >= UNLIMITED:
                raise ValueError("no cut of finite cost keeps the sink from the source")
        return flow, self._leading_to_sink()

    def _levels(self) -> list[int]:
        """How far each node is from the source along edges that have capacity left; -1 where none lead there."""
        levels = [-1] * len(self._edges)
        levels[SOURCE] = 0
        queue = deque([SOURCE])
        while queue and levels[SINK] < 0:
            node = queue.popleft()
            for edge in self._edges[node]:
                head = self._heads[edge]
                if levels[head] < 0 and self._capacities[edge]:
                    levels[head] = levels[node] + 1
                    queue.append(head)
        return levels

    def _saturate(self, levels: list[int]) -> int:
        """Fill the shortest paths; what flows through them."""
        heads, capacities = self._heads, self._capacities
        tried = [0] * len(self._edges)  # how many edges of each node lead nowhere any more
        total = 0
        path: list[int] = []
        node = SOURCE
        while True:
            if node == SINK:
                amount = min(capacities[edge] for edge in path)
                total += amount
                for edge in path:
                    capacities[edge] -= amount
                    capacities[edge ^ 1] += amount
                full = next(i for i, edge in enumerate(path) if not capacities[edge])
                node = heads[path[full] ^ 1]
                del path[full:]
                continue
            edges, following = self._edges[node], levels[node] + 1
            while tried[node] < len(edges):
                edge = edges[tried[node]]
                if capacities[edge] and levels[heads[edge]] == following:
                    path.append(edge)
                    node = heads[edge]
                    break
                tried[node] += 1
            else:
                if not path:
                    return total
                node = heads[path.pop() ^ 1]
                tried[node] += 1

    def _leading_to_sink(self) -> set[int]:
        found, pending = {SINK}, [SINK]
        while pending:
            for edge in self._edges[pending.pop()]:
                tail = self._heads[edge]
                if tail not in found and self._capacities[edge ^ 1]:
                    found.add(tail)
                    pending.append(tail)
        return found
