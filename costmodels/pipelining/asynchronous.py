"""PipeDream with weight stashing: 1F1B that never flushes, so that weights have several versions.

A rank updates its weights after every backward. A microbatch goes back through the version that it
went forward with, which the rank keeps until then [1]_.

References
----------
.. [1] D. Narayanan et al., "PipeDream: Generalized pipeline parallelism for DNN training," SOSP, 2019,
   sections 3.2 and 3.3. doi:10.1145/3341301.3359646.
"""

from costmodels.columns import Column, minimum
from costmodels.errors import SpecError
from costmodels.pipelining.actions import Order
from costmodels.pipelining.orders import ONE_CHUNK_REQUIREMENT, one_f_one_b


def pipedream(*, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int) -> Order:
    """Return the order of PipeDream for the first microbatches of a run: that of 1F1B.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank, which must be one [count].
    microbatch_count : int
        Microbatches of the run, each of which updates the weights [count].

    Returns
    -------
    Order
        For each rank, its actions; each backward ends with an update.

    Raises
    ------
    SpecError
        If the sizes are not those that the schedule requires.
    """
    if virtual_stages != 1:
        raise SpecError(
            f"pipedream {ONE_CHUNK_REQUIREMENT}, but virtual_stages is {virtual_stages}"
        )
    return one_f_one_b(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=1,
        microbatch_count=microbatch_count,
    )


def weight_version_count(
    pipeline_parallel_size: Column, microbatch_count: Column, stage_index: Column
) -> Column:
    """Return the versions of its weights that a rank keeps at most, the newest included [count].

    Parameters
    ----------
    pipeline_parallel_size : Column
        Ranks of the pipeline, p [count].
    microbatch_count : Column
        Microbatches of the run [count].
    stage_index : Column
        The rank, i [index].

    Returns
    -------
    Column
        One for each microbatch in flight, p - i in a run that is long enough [count].

    Examples
    --------
    >>> [weight_version_count(4, 100, rank) for rank in range(4)]
    [4, 3, 2, 1]
    """
    return minimum(pipeline_parallel_size - stage_index, microbatch_count)


def staleness_count(
    pipeline_parallel_size: Column, microbatch_count: Column, stage_index: Column
) -> Column:
    """Return the updates that a rank makes between a microbatch's forward and its backward [count].

    Parameters
    ----------
    pipeline_parallel_size : Column
        Ranks of the pipeline, p [count].
    microbatch_count : Column
        Microbatches of the run [count].
    stage_index : Column
        The rank, i [index].

    Returns
    -------
    Column
        p - 1 - i once the pipeline is full: a gradient is that of weights so many updates old [count].

    Examples
    --------
    >>> [staleness_count(4, 100, rank) for rank in range(4)]
    [3, 2, 1, 0]
    """
    return weight_version_count(pipeline_parallel_size, microbatch_count, stage_index) - 1
