/* The writer of test_journal_powercut.py: commits the history of journal_history.h, waits for durability now and then, mostly as an fsync does,
 * and reports each such position with one write to the mark file, after it was told that it is durable.
 *
 *   journal_writer CACHE HOT MARK RECORDS SEED */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/journal_history.h"
#include "util/fault.h"

int main(int argc, char **argv)
{
	struct journal_config cfg = {.uuid = "powercut", .sync_interval_ms = 20, .hot_size = 4 << 20, .reserve_size = 1 << 20};
	uint64_t records, rnd, seq = 0;
	struct journal *j;
	struct errmsg e;
	char text[32];
	int err = 0, mark;

	if (argc != 6) {
		fprintf(stderr, "usage: journal_writer CACHE HOT MARK RECORDS SEED\n");
		return 2;
	}
	fault_init();
	cfg.cache_dir = argv[1];
	cfg.hot_dir = argv[2];
	records = strtoull(argv[4], NULL, 10);
	rnd = strtoull(argv[5], NULL, 10) | 1;
	mark = open(argv[3], O_WRONLY);
	if (mark < 0 || journal_open(&cfg, &j, NULL, &e)) {
		fprintf(stderr, "journal_writer: %s\n", mark < 0 ? "cannot open the mark file" : e.text);
		return 1;
	}
	while (!err && seq < records) {
		err = history_step(j, &seq);
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		if (err || (rnd >> 33) % 23)
			continue;
		err = journal_wait(j, rnd >> 40 & 3 ? WM_SYNCED : WM_DURABLE, seq);
		int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)seq);
		if (!err && write(mark, text, (size_t)n) != n)
			err = -EIO;
	}
	if (err)
		fprintf(stderr, "journal_writer: record %llu: %s\n", (unsigned long long)seq, strerror(-err));
	journal_abandon(j);
	return err ? 1 : 0;
}
