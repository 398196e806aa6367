/* The verifier of test_journal_powercut.py: opens a journal after a cut and compares it with the history of
 * journal_history.h: a prefix that holds everything up to ACKED, with all its bytes. Prints
 * "durable=N synced=N", the second of them records that only the sync log had.
 *
 *   journal_verify CACHE HOT ACKED      exit status 1 when something is lost, invented or in part */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/journal_history.h"

int main(int argc, char **argv)
{
	struct journal_config cfg = {.uuid = "powercut", .hot_size = 4 << 20, .reserve_size = 1 << 20};
	struct journal_report rep;
	struct journal *j;
	struct errmsg e;
	uint64_t durable, acked, seq = 0;
	int bad;

	if (argc != 4) {
		fprintf(stderr, "usage: journal_verify CACHE HOT ACKED\n");
		return 2;
	}
	cfg.cache_dir = argv[1];
	cfg.hot_dir = argv[2];
	acked = strtoull(argv[3], NULL, 10);
	if (journal_open(&cfg, &j, &rep, &e)) {
		fprintf(stderr, "journal_verify: %s\n", e.text);
		return 1;
	}
	durable = journal_mark(j, WM_DURABLE);
	bad = history_check(j, UINT64_MAX);
	if (durable < acked || rep.dropped || rep.recovered || rep.clean || rep.moved) {
		fprintf(stderr, "journal_verify: durable %llu, acknowledged %llu, dropped %llu, recovered %llu, clean %d, moved %d\n",
			(unsigned long long)durable, (unsigned long long)acked, (unsigned long long)rep.dropped,
			(unsigned long long)rep.recovered, rep.clean, rep.moved);
		bad++;
	}
	if (history_step(j, &seq) || journal_wait(j, WM_DURABLE, seq) || seq != durable + 1) { /* and it goes on from there */
		fprintf(stderr, "journal_verify: no record can be added\n");
		bad++;
	}
	if (journal_close(j))
		bad++;
	printf("durable=%llu synced=%llu\n", (unsigned long long)durable, (unsigned long long)rep.synced);
	return bad != 0;
}
