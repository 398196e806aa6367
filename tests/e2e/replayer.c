/* The replayer over a real journal and a real redis-server, with an uploader that keeps slices in memory: connections that
 * break anywhere, lost answers, restarts, positions that are not ours. After each of them Redis must hold exactly what
 * the model says, every count exact. */
#include "tests/e2e/lib/replay_world.h"

/* --- tests --- */

static void wait_state(struct world *w, enum replayer_state want)
{
	for (int i = 0; i < 2000 && status(w).state != want; i++)
		usleep(5000); /* the state has no condition to wait on */
	if (status(w).state != want)
		fprintf(stderr, "state %d (%s), should be %d\n", status(w).state, status(w).reason, want);
	CHECK_EQ(status(w).state, want);
}

static void drains(void)
{
	struct world *w = world_new(true, unit_seed());

	for (int i = 0; i < 8 && !unit_failures; i++) {
		work(w, 60);
		drain_or_say(w);
		compare(w);
	}
	world_free(w);
}

static void follows(uint64_t ahead_ns)
{
	struct world *w = world_new(false, unit_seed());
	uint64_t last;

	w->ahead_ns = ahead_ns;
	work(w, 100);
	last = w->js[w->m->seq];
	for (int i = 0; i < 2000 && journal_mark(w->j, WM_APPLIED) < last; i++)
		usleep(5000);
	CHECK(journal_mark(w->j, WM_APPLIED) >= last);
	compare(w);
	world_free(w);
}

static void follows_without_demand(void)
{
	follows(0);
}

static void follows_when_the_clock_was_set_back(void)
{
	follows(3600000000000u);
}

/* What is due waits a little, with an upload delay, for what is to share its object. */
static void small_files_wait_for_each_other(void)
{
	struct world *w;
	uint64_t from;

	packing = 32768;
	w = world_new(false, unit_seed());
	packing = 0;
	w->delay_ms = 4000; /* so a window waits for 400 ms */
	replayer_down(w);
	replayer_up(w);
	for (int name = 0; name < 2; name++) { /* due in 100 and in 300 ms */
		w->ahead_ns = 0 - (uint64_t)(3900 - 200 * name) * 1000000;
		from = w->m->seq;
		m_write(w->m, m_make(w->m, &w->m->now.i[1], name, JFS_FILE), 0, 0, 100);
		journal_records(w, from);
	}
	for (int i = 0; i < 2000 && journal_mark(w->j, WM_APPLIED) < w->js[w->m->seq]; i++)
		usleep(5000);
	CHECK(journal_mark(w->j, WM_APPLIED) >= w->js[w->m->seq]);
	CHECK_EQ(w->st->n, 1);
	compare(w);
	world_free(w);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they take memory of their own */
/* Of this process, in MiB, without mapped files. */
static long memory_used(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	long kib = -1;

	REQUIRE(f);
	while (kib < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "RssAnon: %ld", &kib);
	fclose(f);
	REQUIRE(kib >= 0);
	return kib / 1024;
}

/* However often the same thing is changed while nothing is due: only so much of what lies ahead is looked at. */
static void looking_ahead_has_an_end(void)
{
	struct world *w = world_new(false, unit_seed());
	struct inode_val root = { .attr = { .type = JFS_DIR, .mode = 0700, .nlink = 2, .length = 4096, .parent = 1 } };
	long before = memory_used(), most = 0;
	uint64_t seq = 0;

	w->delay_ms = 3600000;
	again(w, false);
	for (uint32_t n = 0; n < 2000000;) {
		int err;

		journal_lock(w->j);
		root.attr.mtime_nsec = n;
		rec_put_inode(journal_begin(w->j, OP_SETATTR), 1, &root, 0);
		err = journal_commit(w->j, &seq);
		journal_unlock(w->j);
		n += err == 0;
		REQUIRE(err == 0 || (err == -EAGAIN && journal_wait_room(w->j) == 0));
	}
	w->delay_ms = 0;
	replayer_set_upload_delay(w->r, 0);
	while (journal_mark(w->j, WM_APPLIED) < seq) {
		long now = memory_used();

		most = now > most ? now : most;
		usleep(5000);
	}
	printf("  2,000,000 records: %ld MiB\n", most - before);
	CHECK(most - before < 110);
	world_free(w);
}
#endif

/* unsafe_batch from here on. */
static void without_the_script(struct world *w)
{
	replayer_down(w);
	w->url.mode = RDS_UNSAFE_BATCH;
	replayer_up(w);
}

/* Connections break anywhere, in both directions, windows in flight. */
static void cut_connections(bool script)
{
	uint64_t seed = unit_seed();
	struct world *w = world_new(seed & 1, seed);

	if (!script)
		without_the_script(w);
	/* On a busy machine a place to cut at may be replaced before it is reached: then there are more rounds. */
	for (int i = 0; (i < 40 || (i < 120 && atomic_load(&w->relay.cuts) <= 3)) && !unit_failures; i++) {
		atomic_store(&w->relay.cut_in, (long)m_rand(w->m, script ? 400 : 6000));
		atomic_store(&w->relay.cut_out, m_rand(w->m, 2) ? (long)m_rand(w->m, 20000) : -1);
		work(w, 1 + (int)m_rand(w->m, 40));
		if (i % 2 == 0) {
			drain_or_say(w);
			compare(w);
		}
	}
	drain_or_say(w);
	compare(w);
	CHECK(atomic_load(&w->relay.cuts) > 3);
	world_free(w);
}

static void history_33_34_cut_connections(void)
{
	cut_connections(true);
}

static void unsafe_batch_applies_whole_windows_when_connections_break(void)
{
	cut_connections(false);
}

/* The window was applied, its last answer is lost, and then we end. */
static void answer_lost_then_crash(bool script)
{
	struct world *w = world_new(false, unit_seed());

	if (!script)
		without_the_script(w);
	for (int round = 0; round < 6 && !unit_failures; round++) {
		work(w, 30);
		drain_or_say(w);
		/* into the answer of the next script; or into one of those of the next window's commands */
		atomic_store(&w->relay.cut_in, script ? 3 : (long)m_rand(w->m, 1500));
		work(w, 30);
		REQUIRE(journal_wait(w->j, WM_DURABLE, journal_mark(w->j, WM_COMMITTED)) == 0);
		for (int i = 0; i < 2000 && atomic_load(&w->relay.cut_in) >= 0; i++)
			usleep(1000);
		atomic_store(&w->relay.refuse, true);
		replayer_down(w);
		REQUIRE(journal_wait(w->j, WM_DURABLE, journal_mark(w->j, WM_COMMITTED)) == 0);
		journal_abandon(w->j);
		journal_up(w, false);
		atomic_store(&w->relay.refuse, false);
		replayer_up(w);
		drain_or_say(w);
		compare(w);
	}
	world_free(w);
}

static void history_55_answer_lost_then_crash(void)
{
	answer_lost_then_crash(true);
}

static void history_55_unsafe_batch_answer_lost_then_crash(void)
{
	answer_lost_then_crash(false);
}

/* Slices were chosen and recorded, their uploads never answered; after the crash the same ids carry the same bytes. */
static void history_35_slice_ids(void)
{
	struct world *w = world_new(false, unit_seed());

	for (int round = 0; round < 4 && !unit_failures; round++) {
		work(w, 40);
		if (round & 1)
			atomic_store(&w->hold_uploads, 1);
		work(w, 40);
		REQUIRE(journal_wait(w->j, WM_DURABLE, journal_mark(w->j, WM_COMMITTED)) == 0);
		for (int i = 0; i < 200 && !status(w).windows; i++)
			usleep(1000);
		replayer_down(w);
		REQUIRE(journal_wait(w->j, WM_DURABLE, journal_mark(w->j, WM_COMMITTED)) == 0);
		journal_abandon(w->j);
		atomic_store(&w->hold_uploads, 0);
		journal_up(w, false);
		replayer_up(w);
		drain_or_say(w);
		compare(w);
	}
	world_free(w);
}

/* An old copy of the cache directory, another history, a reloaded volume, a takeover: nothing is written. */
static void history_50_foreign_positions(void)
{
	static const struct {
		const char *cmd;
		enum replayer_state want;
	} cases[] = {
		{ "HSET zjfs seq 999999 chain ffffffffffffffffffffffffffffffff", REPLAY_STOPPED },
		{ "HSET zjfs chain ffffffffffffffffffffffffffffffff", REPLAY_STOPPED },
		{ "DEL zjfs", REPLAY_STOPPED },
		{ "HSET zjfs epoch 4", REPLAY_FENCED },
	};

	for (size_t i = 0; i < 4; i++) {
		struct world *w = world_new(false, 77 + i);
		redisReply *before, *after;

		work(w, 30);
		drain_or_say(w);
		rds_reply_free(CK(w->conn, cases[i].cmd));
		before = CK(w->conn, "DEBUG DIGEST");
		work(w, 30);
		wait_state(w, cases[i].want);
		after = CK(w->conn, "DEBUG DIGEST");
		CHECK_STR(after->str, before->str);
		rds_reply_free(before);
		rds_reply_free(after);
		world_free(w);
	}
}

/* Six new files: nothing of them has to be asked of Redis. */
static void new_files(struct world *w)
{
	uint64_t from = w->m->seq;

	for (int n = 0; n < M_NAMES; n++) {
		struct m_inode *f = m_make(w->m, &w->m->now.i[1], n, JFS_FILE);

		REQUIRE(f);
		m_write(w->m, f, 0, 0, 10 + (uint32_t)m_rand(w->m, 100));
	}
	journal_records(w, from);
}

static size_t stored_up_to(struct world *w, uint64_t id)
{
	size_t n = 0;

	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < w->st->n; i++)
		n += w->st->s[i].id <= id;
	pthread_mutex_unlock(&w->lock);
	return n;
}

/* What a stock gc takes away: objects that no list names. */
static void collect_up_to(struct world *w, uint64_t id)
{
	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < w->st->n; i++) {
		if (w->st->s[i].id > id)
			continue;
		free(w->st->s[i].bytes);
		w->st->s[i--] = w->st->s[--w->st->n];
	}
	pthread_mutex_unlock(&w->lock);
}

/* Objects were uploaded, and Redis was away for long: what is published then are new objects, the old ones are deleted, if no
 * gc has done that. */
static void too_old(bool crash, bool gc)
{
	struct world *w = world_new(false, unit_seed());
	uint64_t last, since;

	w->republish_ms = 200;
	w->delay_ms = 3600000; /* what is waited for makes one window */
	atomic_store(&w->relay.refuse, true);
	again(w, false);
	new_files(w);
	REQUIRE(journal_wait(w->j, WM_UPLOADED, w->js[w->m->seq]) == 0);
	last = w->next_slice;
	since = clock_boot_ms();
	CHECK(packing ? w->st->n == 1 : w->st->n == M_NAMES);
	while (clock_boot_ms() - since <= w->republish_ms)
		usleep(5000);
	if (crash)
		again(w, true);
	if (gc)
		collect_up_to(w, last);
	atomic_store(&w->relay.refuse, false);
	work(w, 20);
	drain_or_say(w);
	compare(w);
	CHECK(w->next_slice > last);
	for (int i = 0; i < 2000 && stored_up_to(w, last); i++)
		usleep(1000);
	CHECK_EQ(stored_up_to(w, last), 0);
	world_free(w);
}

static void history_43_too_old_to_publish(void)
{
	too_old(false, false);
	too_old(false, true);
}

static void history_43_too_old_after_a_crash(void)
{
	too_old(true, false);
	too_old(true, true);
}

/* And if it was not for long, a restart uploads nothing under another name. */
static void young_slices_stay(void)
{
	struct world *w = world_new(false, unit_seed());
	uint64_t last;

	atomic_store(&w->relay.refuse, true);
	again(w, false);
	new_files(w);
	REQUIRE(journal_wait(w->j, WM_UPLOADED, w->js[w->m->seq]) == 0);
	last = w->next_slice;
	again(w, true);
	atomic_store(&w->relay.refuse, false);
	drain_or_say(w);
	compare(w);
	CHECK_EQ(w->next_slice, last);
	world_free(w);
}

/* An upload that always takes longer than what is too old does not go round for ever. */
static void history_45_slow_upload(void)
{
	struct world *w = world_new(false, unit_seed());
	uint64_t first = w->next_slice + (packing ? 1 : M_NAMES);

	w->republish_ms = 300;
	w->upload_takes_ms = 350;
	w->delay_ms = 3600000;
	again(w, false);
	new_files(w);
	drain_or_say(w);
	compare(w);
	for (int i = 0; i < 2 && !unit_failures; i++) {
		work(w, 40);
		drain_or_say(w);
		compare(w);
	}
	CHECK(w->next_slice > first); /* it was tried once more */
	world_free(w);
}

/* Complete commands at the start of p: how many bytes. */
static size_t whole_commands(const char *p, size_t n)
{
	size_t at = 0, whole = 0;

	for (;;) {
		const char *nl = memchr(p + at, '\n', n - at);
		long args = nl && p[at] == '*' ? strtol(p + at + 1, NULL, 10) : 0;

		if (!args)
			return whole;
		at = (size_t)(nl + 1 - p);
		for (; args; args--) {
			nl = memchr(p + at, '\n', n - at);
			if (!nl || (size_t)(nl + 1 - p) + (size_t)strtoul(p + at + 1, NULL, 10) + 2 > n)
				return whole;
			at = (size_t)(nl + 1 - p) + (size_t)strtoul(p + at + 1, NULL, 10) + 2;
		}
		whole = at;
	}
}

/* A window's script is lost; it is composed anew, with other slices; then the first script arrives after all, and is
 * executed. What is recorded must be what Redis has: every reference, every list. */
static void history_33_late_script_of_an_earlier_composition(void)
{
	struct world *w = world_new(false, unit_seed());
	uint64_t since;
	size_t n;
	int fd;

	w->republish_ms = 150;
	again(w, false);
	for (int round = 0; round < 3 && !unit_failures; round++) {
		uint64_t from = w->m->seq;

		for (int name = 0; name < M_NAMES && round; name++)
			m_unlink(w->m, &w->m->now.i[1], name);
		journal_records(w, from);
		drain_or_say(w);
		atomic_store(&w->relay.taken_n, 0);
		atomic_store(&w->relay.capture, true);
		new_files(w);
		for (int i = 0; i < 5000 && !whole_commands(w->relay.taken, atomic_load(&w->relay.taken_n)); i++)
			usleep(1000);
		n = whole_commands(w->relay.taken, atomic_load(&w->relay.taken_n));
		REQUIRE(n > 0);
		since = clock_boot_ms(); /* its upload began before */
		while (clock_boot_ms() - since <= w->republish_ms)
			usleep(5000);
		atomic_store(&w->at_gate, false);
		atomic_store(&w->gate, true);
		atomic_store(&w->relay.refuse, true); /* the connection breaks */
		for (int i = 0; i < 5000 && status(w).state != REPLAY_WAITING; i++)
			usleep(1000);
		atomic_store(&w->relay.capture, false);
		atomic_store(&w->relay.refuse, false);
		for (int i = 0; i < 5000 && !atomic_load(&w->at_gate); i++)
			usleep(1000);
		CHECK(atomic_load(&w->at_gate)); /* composed anew: it is being uploaded again */
		fd = unix_fd(w->redis.sock, false);
		REQUIRE(fd >= 0 && write(fd, w->relay.taken, n) == (ssize_t)n);
		REQUIRE(read(fd, w->relay.taken, 64) > 0); /* executed */
		close(fd);
		atomic_store(&w->gate, false);
		drain_or_say(w);
		compare(w);
		if (round == 1)
			again(w, true);
	}
	work(w, 40);
	drain_or_say(w);
	compare(w);
	world_free(w);
}

/* --- staged bytes that cannot be read --- */

/* Files of names 0 and 1 in one window; the bytes of the first cannot be read. */
static struct world *world_with_a_bad_file(void)
{
	struct world *w = world_new(false, unit_seed());

	atomic_store(&w->hold_uploads, 1);
	new_file(w, 0);
	new_file(w, 1);
	w->bad_to = 100; /* what was staged first */
	window_held(w, 0);
	return w;
}

/* The others go on, whatever their slices shared with it. */
static void bad_file_removed(bool crash)
{
	struct world *w = world_with_a_bad_file();
	uint64_t from = w->m->seq;

	held_end(w, 0, false);
	wait_state(w, REPLAY_STOPPED);
	m_unlink(w->m, &w->m->now.i[1], 0);
	journal_records(w, from);
	atomic_store(&w->hold_uploads, 0);
	again(w, crash); /* as after jfs-recover discard */
	drain_or_say(w);
	compare(w);
	CHECK_EQ(status(w).state, REPLAY_RUNNING);
	world_free(w);
}

static void a_bad_file_is_removed(void)
{
	bad_file_removed(false);
	bad_file_removed(true);
}

/* Windows are merged while they are being uploaded: an answer is about the slices that were sent, not about those of the
 * window that ends there now. */
static void an_answer_is_about_what_was_sent(void)
{
	struct world *w = world_with_a_bad_file();
	uint64_t from = w->m->seq;

	new_file(w, 2);
	window_held(w, from);
	from = w->m->seq;
	m_unlink(w->m, &w->m->now.i[1], 0);
	new_file(w, 3);
	window_held(w, from);
	wait_windows(w, 3);
	held_end(w, 0, false); /* fails: all become one, which ends where the third did */
	wait_windows(w, 1);
	atomic_store(&w->hold_uploads, 0);
	held_end(w, 1, false); /* the third; the second is never answered */
	drain_or_say(w);
	compare(w);
	CHECK_EQ(status(w).state, REPLAY_RUNNING);
	world_free(w);
}

/* What is to become one slice may be nothing but zeroes. */
static void a_hole_is_compacted(void)
{
	struct world *w = world_new(false, unit_seed());
	struct m_inode *f;

	new_file(w, 0);
	applied(w, 0);
	f = &w->m->now.i[w->m->now.i[1].child[0]];
	m_punch(w->m, f, 0, 100);
	m_begin(w->m, OP_COMPACT);
	rec_compact(&w->m->rec, f->ino, 0);
	m_commit(w->m);
	applied(w, w->m->seq - 2);
	compare(w);
	m_write(w->m, f, 0, 10, 10);
	applied(w, w->m->seq - 1);
	compare(w);
	world_free(w);
}

/* The volume's objects go away when nothing names them any more and the retention is over; not before. */
static void dead_objects_are_deleted(void)
{
	struct world *w = world_new(false, 4711);
	struct m_inode *f;
	uint64_t from;

	replayer_down(w);
	w->retention_ms = 1;
	replayer_up(w);
	f = m_make(w->m, &w->m->now.i[1], 0, JFS_FILE);
	REQUIRE(f);
	m_write(w->m, f, 0, 0, 100);
	journal_records(w, 0);
	drain_or_say(w);
	from = w->m->seq;
	m_unlink(w->m, &w->m->now.i[1], 0);
	journal_records(w, from);
	drain_or_say(w);
	for (int i = 0; i < 1000 && !atomic_load(&w->deleted); i++) {
		replayer_kick(w->r);
		usleep(5000);
	}
	CHECK_EQ(atomic_load(&w->deleted), 1);
	CHECK_EQ(w->st->n, 0);
	compare(w);
	world_free(w);
}

/* A store that refuses to delete is not asked for all of it again with every window. */
static void refused_deletions_rest(void)
{
	struct world *w = world_new(false, 4711);

	replayer_down(w);
	w->retention_ms = 1;
	w->refuse = true;
	replayer_up(w);
	for (int round = 0; round < 3; round++) {
		uint64_t from = w->m->seq;

		new_file(w, 0);
		journal_records(w, from);
		drain_or_say(w);
		from = w->m->seq;
		m_unlink(w->m, &w->m->now.i[1], 0);
		journal_records(w, from);
		drain_or_say(w);
		for (int i = 0; i < 5000 && (status(w).trim < w->js[w->m->seq] || !atomic_load(&w->refused)); i++) {
			replayer_kick(w->r);
			usleep(1000);
		}
		CHECK(status(w).trim >= w->js[w->m->seq]);
		wait_windows(w, 0); /* it has looked around since */
	}
	CHECK_EQ(atomic_load(&w->refused), 1);
	compare(w);
	world_free(w);
}

static void eager_publishes_first(void)
{
	struct world *w = world_new(false, unit_seed());

	replayer_down(w);
	w->eager = true;
	replayer_up(w);
	for (int i = 0; i < 5 && !unit_failures; i++) {
		work(w, 50);
		drain_or_say(w);
		CHECK_EQ(journal_wait(w->j, WM_UPLOADED, w->js[w->m->seq]), 0);
		compare(w);
	}
	world_free(w);
}

/* Names are published while all uploads lag: copies of what is on its way name its slices. */
static void eager_copies_find_what_lags(void)
{
	struct world *w = world_new(false, unit_seed());

	replayer_down(w);
	w->eager = w->own_threads = true;
	replayer_up(w);
	for (int round = 0; round < 6 && !unit_failures; round++) {
		atomic_store(&w->gate, true);
		for (int i = 0; i < 4; i++) {
			work(w, 15);
			drain_or_say(w);
		}
		atomic_store(&w->gate, false);
		CHECK_EQ(journal_wait(w->j, WM_UPLOADED, w->js[w->m->seq]), 0);
		compare(w);
	}
	while (atomic_load(&w->on_their_way))
		usleep(1000);
	world_free(w);
}

/* The same with slices that share others. */
PACKED(history_33_34_cut_connections)
PACKED(history_55_answer_lost_then_crash)
PACKED(history_35_slice_ids)
PACKED(history_43_too_old_to_publish)
PACKED(history_43_too_old_after_a_crash)
PACKED(young_slices_stay)
PACKED(history_45_slow_upload)
PACKED(history_33_late_script_of_an_earlier_composition)
PACKED(a_bad_file_is_removed)
PACKED(an_answer_is_about_what_was_sent)
PACKED(eager_publishes_first)
PACKED(eager_copies_find_what_lags)

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{ "drains", drains },
		{ "follows_without_demand", follows_without_demand },
		{ "follows_when_the_clock_was_set_back", follows_when_the_clock_was_set_back },
		{ "small_files_wait_for_each_other", small_files_wait_for_each_other },
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		{ "looking_ahead_has_an_end", looking_ahead_has_an_end },
#endif
		{ "history_33_34_cut_connections", history_33_34_cut_connections },
		{ "unsafe_batch_applies_whole_windows_when_connections_break",
			unsafe_batch_applies_whole_windows_when_connections_break },
		{ "history_55_answer_lost_then_crash", history_55_answer_lost_then_crash },
		{ "history_55_unsafe_batch_answer_lost_then_crash", history_55_unsafe_batch_answer_lost_then_crash },
		{ "history_35_slice_ids", history_35_slice_ids },
		{ "history_43_too_old_to_publish", history_43_too_old_to_publish },
		{ "history_43_too_old_after_a_crash", history_43_too_old_after_a_crash },
		{ "young_slices_stay", young_slices_stay },
		{ "history_45_slow_upload", history_45_slow_upload },
		{ "history_33_late_script_of_an_earlier_composition", history_33_late_script_of_an_earlier_composition },
		{ "history_50_foreign_positions", history_50_foreign_positions },
		{ "a_bad_file_is_removed", a_bad_file_is_removed },
		{ "an_answer_is_about_what_was_sent", an_answer_is_about_what_was_sent },
		{ "a_hole_is_compacted", a_hole_is_compacted },
		{ "dead_objects_are_deleted", dead_objects_are_deleted },
		{ "refused_deletions_rest", refused_deletions_rest },
		{ "eager_publishes_first", eager_publishes_first },
		{ "eager_copies_find_what_lags", eager_copies_find_what_lags },
		{ "history_33_34_cut_connections_packed", history_33_34_cut_connections_packed },
		{ "history_55_answer_lost_then_crash_packed", history_55_answer_lost_then_crash_packed },
		{ "history_35_slice_ids_packed", history_35_slice_ids_packed },
		{ "history_43_too_old_to_publish_packed", history_43_too_old_to_publish_packed },
		{ "history_43_too_old_after_a_crash_packed", history_43_too_old_after_a_crash_packed },
		{ "young_slices_stay_packed", young_slices_stay_packed },
		{ "history_45_slow_upload_packed", history_45_slow_upload_packed },
		{ "history_33_late_script_of_an_earlier_composition_packed", history_33_late_script_of_an_earlier_composition_packed },
		{ "a_bad_file_is_removed_packed", a_bad_file_is_removed_packed },
		{ "an_answer_is_about_what_was_sent_packed", an_answer_is_about_what_was_sent_packed },
		{ "eager_publishes_first_packed", eager_publishes_first_packed },
		{ "eager_copies_find_what_lags_packed", eager_copies_find_what_lags_packed },
		{ NULL, NULL },
	};

	signal(SIGPIPE, SIG_IGN);
	return unit_main(argc, argv, tests);
}
