"""What a prefix cache will hold, against cases that are counted by hand."""

from localemp.estimates.prefix_cache import CacheRules, Request, cached_tokens, chain


def request(tokens, reply=1, block=4):
    return Request(len(tokens), reply, chain(tokens, block))


def hits(dialogues, rules):
    """Cached tokens by dialogue and request."""
    return {(number, stage): tokens for number, stage, tokens in cached_tokens(dialogues, rules)}


TASK = list(range(8))


def test_a_chain_names_all_tokens_so_far():
    assert list(chain(range(11), 4)) == list(chain([*range(8), 99, 98, 97], 4))
    assert len(chain(range(3), 4)) == 0
    other = chain([9, *range(1, 8)], 4)
    assert not set(other) & set(chain(range(8), 4)), "the second blocks have the same tokens, but not before them"


def test_prompts_share_full_blocks_from_their_start():
    dialogues = [
        [request([*TASK, 20, 21])],
        [request([*TASK, 30])],
        [request([*TASK[:6], 40, 41, 42])],
        [request([50])],
    ]
    assert hits(dialogues, CacheRules(block=4)) == {(0, 0): 0, (1, 0): 8, (2, 0): 4, (3, 0): 0}


def test_the_last_token_is_always_computed():
    same = [[request(TASK)], [request(TASK)]]
    assert hits(same, CacheRules(block=4))[1, 0] == 4, "8 tokens are two full blocks, but the last token needs one"


def test_a_second_stage_finds_the_first_with_its_answer():
    first, second = [*TASK, 20, 21], [*TASK, 20, 21, 7, 7, 7, 60, 61]
    # With 3 tokens of reply, the last of which is not computed, 12 tokens are known: three blocks.
    known = Request(len(first), 3, chain(second, 4)[: (10 + 3 - 1) // 4])
    assert hits([[known, request(second)]], CacheRules(block=4)) == {(0, 0): 0, (0, 1): 12}
    known = Request(len(first), 2, chain(second, 4)[: (10 + 2 - 1) // 4])
    assert hits([[known, request(second)]], CacheRules(block=4)) == {(0, 0): 0, (0, 1): 8}


def test_a_full_cache_forgets_what_was_used_longest_ago():
    dialogues = [[request([start, *range(start, start + 7)])] for start in (100, 200, 300, 100)]
    # Each takes two blocks of prompt and one for its reply.
    at = {"block": 4, "at_once": 1, "concurrency": 1}
    assert hits(dialogues, CacheRules(**at))[3, 0] == 4
    assert hits(dialogues, CacheRules(capacity=9, **at))[3, 0] == 4
    assert hits(dialogues, CacheRules(capacity=6, **at))[3, 0] == 0


def test_what_is_shared_all_the_time_is_not_forgotten():
    dialogues = [[request([*TASK, start, *range(start, start + 7)])] for start in range(100, 1000, 10)]
    found = hits(dialogues, CacheRules(block=4, capacity=12, at_once=2, concurrency=4))
    assert list(found.values()) == [0] + [8] * (len(dialogues) - 1)


def test_a_second_stage_does_not_wait_behind_dialogues_that_were_opened_later():
    def dialogue(start):
        first, second = list(range(start, start + 8)), list(range(start, start + 12))
        return [request(first), request(second)]

    rules = CacheRules(block=4, capacity=9, at_once=1, concurrency=8)
    found = hits([dialogue(100 * number) for number in range(1, 9)], rules)
    assert [found[number, 1] for number in range(8)] == [8] * 8, "at the end of the queue, its prefix would be gone"


def test_a_request_larger_than_the_cache_is_played_all_the_same():
    large = [[request(range(100))], [request(range(100))]]
    assert hits(large, CacheRules(block=4, capacity=3)) == {(0, 0): 0, (1, 0): 12}


def test_openai_caches_from_1024_tokens_in_steps_of_128():
    def cached(shared):
        prompts = [[*range(shared), 10_000 + number, 20_000] for number in range(2)]
        return hits([[request(each, block=128)] for each in prompts], CacheRules(128, 1024))[1, 0]

    assert [cached(shared) for shared in (1000, 1024, 1100, 1152, 3000)] == [0, 1024, 1024, 1152, 2944]


def test_no_cache():
    assert hits([[request(TASK), request(TASK)]], CacheRules(block=0)) == {(0, 0): 0, (0, 1): 0}
    assert hits([[], [request(TASK)]], CacheRules(block=4)) == {(1, 0): 0}
