"""Bytes and times of collectives as algorithms over links: rings, and point to point.

A rank of a ring sends to one neighbour and receives from the other. Every collective is a number
of steps, each a chunk of the message, so that its time alone is steps x latency + bytes sent /
bandwidth [1]_.

References
----------
.. [1] R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations
   in MPICH," Int. J. High Perform. Comput. Appl. 19(1), 2005, sections 4.1 and 4.4.
   doi:10.1177/1094342005051521.
"""

from costmodels.columns import Column, ceil_div, maximum


def ring_all_gather_bytes(gathered_bytes: Column, group_size: Column) -> Column:
    """Return the bytes that one rank sends in a ring all-gather [byte].

    Parameters
    ----------
    gathered_bytes : Column
        Size of the gathered tensor, n [byte].
    group_size : Column
        Ranks in the group, p, at least one [count].

    Returns
    -------
    Column
        (p - 1) shards of n / p, rounded up to whole bytes; zero for one rank [byte].

    References
    ----------
    Thakur et al. 2005, section 4.1, doi:10.1177/1094342005051521.

    Examples
    --------
    >>> ring_all_gather_bytes(1_000_000, group_size=4)
    750000
    """
    return (group_size - 1) * ceil_div(gathered_bytes, group_size)


def ring_reduce_scatter_bytes(reduced_bytes: Column, group_size: Column) -> Column:
    """Return the bytes that one rank sends in a ring reduce-scatter [byte].

    Parameters
    ----------
    reduced_bytes : Column
        Size of the tensor before it is scattered, n [byte].
    group_size : Column
        Ranks in the group, p, at least one [count].

    Returns
    -------
    Column
        (p - 1) shards of n / p, as an all-gather of the same tensor [byte].

    References
    ----------
    Thakur et al. 2005, section 4.3, doi:10.1177/1094342005051521.

    Examples
    --------
    >>> ring_reduce_scatter_bytes(1_000_000, group_size=4)
    750000
    """
    return (group_size - 1) * ceil_div(reduced_bytes, group_size)


def ring_all_reduce_bytes(message_bytes: Column, group_size: Column) -> Column:
    """Return the bytes that one rank sends in a ring all-reduce [byte].

    Parameters
    ----------
    message_bytes : Column
        Size of the reduced tensor, the same on every rank, n [byte].
    group_size : Column
        Ranks in the group, p, at least one [count].

    Returns
    -------
    Column
        2 n (p - 1) / p: a reduce-scatter and an all-gather, the least that any all-reduce can
        send; zero for one rank [byte].

    References
    ----------
    P. Patarasuk and X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
    workstations," J. Parallel Distrib. Comput. 69(2), 2009, pp. 117-124.
    doi:10.1016/j.jpdc.2008.09.002.

    Examples
    --------
    >>> ring_all_reduce_bytes(1_000_000, group_size=4)
    1500000
    """
    return 2 * (group_size - 1) * ceil_div(message_bytes, group_size)


def all_to_all_bytes(message_bytes: Column, group_size: Column) -> Column:
    """Return the bytes that one rank sends in an all-to-all of equal parts [byte].

    Parameters
    ----------
    message_bytes : Column
        What a rank hands over, a part of it for each rank, its own included, n [byte].
    group_size : Column
        Ranks in the group, p, at least one [count].

    Returns
    -------
    Column
        (p - 1) parts of n / p, rounded up to whole bytes; zero for one rank [byte].

    References
    ----------
    R. Thakur, R. Rabenseifner, W. Gropp, 2005, section 4.6, doi:10.1177/1094342005051521
    (pairwise exchange).

    Examples
    --------
    >>> all_to_all_bytes(1_000_000, group_size=4)
    750000
    """
    return (group_size - 1) * ceil_div(message_bytes, group_size)


def all_to_all_s(
    sent_bytes: Column,
    *,
    network_fraction: Column,
    inside_bytes_per_s: Column,
    network_bytes_per_s: Column,
    latency_s: Column,
) -> Column:
    """Return the time of one all-to-all, alone on its links [s].

    Parameters
    ----------
    sent_bytes : Column
        Bytes that one rank sends [byte].
    network_fraction : Column
        Share of them that goes to ranks in other nodes [fraction].
    inside_bytes_per_s, network_bytes_per_s : Column
        Bandwidth of a rank inside its node, and of its own NIC [byte/s].
    latency_s : Column
        Of the slowest link [s].

    Returns
    -------
    Column
        One latency, and the longer of what goes over each tier: all parts leave at once [s].

    References
    ----------
    R. W. Hockney, 1994, section 2, doi:10.1016/S0167-8191(06)80021-9, for each tier.

    Examples
    --------
    >>> all_to_all_s(800, network_fraction=0.5, inside_bytes_per_s=400.0,
    ...     network_bytes_per_s=100.0, latency_s=1.0)
    5.0
    """
    across = sent_bytes * network_fraction / network_bytes_per_s
    inside = sent_bytes * (1.0 - network_fraction) / inside_bytes_per_s
    return latency_s + maximum(across, inside)


def ring_pass_s(
    sent_bytes: Column, *, group_size: Column, bandwidth_bytes_per_s: Column, latency_s: Column
) -> Column:
    """Return the time of one ring all-gather or reduce-scatter, alone on its links [s].

    Parameters
    ----------
    sent_bytes : Column
        Bytes that one rank sends [byte].
    group_size : Column
        Ranks in the group, p [count].
    bandwidth_bytes_per_s, latency_s : Column
        Of the slowest link of the ring [byte/s], [s].

    Returns
    -------
    Column
        (p - 1) steps of latency, and the bytes at the bandwidth [s].

    References
    ----------
    Thakur et al. 2005, section 4.1, doi:10.1177/1094342005051521.

    Examples
    --------
    >>> ring_pass_s(750_000, group_size=4, bandwidth_bytes_per_s=1e9, latency_s=1e-6)
    0.000753
    """
    return (group_size - 1) * latency_s + sent_bytes / bandwidth_bytes_per_s


def ring_all_reduce_s(
    sent_bytes: Column, *, group_size: Column, bandwidth_bytes_per_s: Column, latency_s: Column
) -> Column:
    """Return the time of one ring all-reduce, alone on its links [s].

    Parameters
    ----------
    sent_bytes : Column
        Bytes that one rank sends, of both halves [byte].
    group_size : Column
        Ranks in the group, p [count].
    bandwidth_bytes_per_s, latency_s : Column
        Of the slowest link of the ring [byte/s], [s].

    Returns
    -------
    Column
        2 (p - 1) steps of latency, and the bytes at the bandwidth [s].

    References
    ----------
    Thakur et al. 2005, section 4.4, doi:10.1177/1094342005051521.

    Examples
    --------
    >>> ring_all_reduce_s(1_500_000, group_size=4, bandwidth_bytes_per_s=1e9, latency_s=1e-6)
    0.001506
    """
    return 2 * (group_size - 1) * latency_s + sent_bytes / bandwidth_bytes_per_s


def send_s(sent_bytes: Column, *, bandwidth_bytes_per_s: Column, latency_s: Column) -> Column:
    """Return the time from the start of a send to its arrival, alone on the link [s].

    Parameters
    ----------
    sent_bytes : Column
        Size of the message [byte].
    bandwidth_bytes_per_s, latency_s : Column
        Of the link [byte/s], [s].

    Returns
    -------
    Column
        Latency plus bytes at the bandwidth [s].

    References
    ----------
    R. W. Hockney, "The communication challenge for MPP," Parallel Computing 20(3), 1994,
    section 2. doi:10.1016/S0167-8191(06)80021-9.

    Examples
    --------
    >>> send_s(1_000_000, bandwidth_bytes_per_s=1e9, latency_s=1e-6)
    0.001001
    """
    return latency_s + sent_bytes / bandwidth_bytes_per_s
