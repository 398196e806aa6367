/* A Redis that forgets (P8): the replayer finds it where it was, and leaves there what would be there if it had not. */
#include "tests/e2e/lib/replay_world.h"

/* All that was staged, but for what the view still shows (of files that are open and have no name). */
static void give_back(struct world *w)
{
	const struct jkey all = { .len = 1, .b = { T_EXTENT } };
	const uint8_t *k, *v;
	struct view_iter *it;
	size_t kn, vn;

	pthread_mutex_lock(&w->lock);
	memset(w->given_back, true, w->m->staged);
	journal_lock(w->j);
	it = view_seek(w->j, &all, 1);
	REQUIRE(it);
	while (view_step(it, &k, &kn, &v, &vn) > 0) {
		struct extent_val e;

		REQUIRE(extent_val_decode(v, vn, &e) == 0);
		if (e.kind == EXT_STAGED)
			w->given_back[e.run_off] = false;
	}
	view_end(it);
	journal_unlock(w->j);
	pthread_mutex_unlock(&w->lock);
}

/* Redis is what it was at its last save. */
static void fall_back(struct world *w)
{
	redis_here_stop(&w->redis);
	redis_here_start(&w->redis);
	rds_conn_free(w->conn);
	w->conn = redis_here_connect(&w->redis);
}

/* What files show lies in slices that Redis's lists name, or is staged yet: of files that are open and have no name. A copy made
 * from there would name them. */
static void compare_view(struct world *w)
{
	for (const struct m_inode *f = w->m->now.i; f < w->m->now.i + M_INODES; f++) {
		for (int c = 0; c < 2 && f->ino && f->a.type == JFS_FILE && f->names; c++) {
			redisReply *l = CK(w->conn, "LRANGE c%llu_%d 0 -1", (unsigned long long)f->ino, c);

			for (uint32_t at = 0; at < M_WIN; at++) {
				struct extent_val e = { 0 };
				bool found, named = false;

				if (!f->from[c][at])
					continue;
				journal_lock(w->j);
				found = view_extent(w, f->ino, (uint32_t)c, at, &e);
				journal_unlock(w->j);
				for (size_t i = 0; i < l->elements; i++)
					named |= get_be64((const uint8_t *)l->element[i]->str + 4) == e.slice_id;
				CHECK(found && (e.kind == EXT_STAGED || (e.kind == EXT_OBJECT && named)));
			}
			rds_reply_free(l);
		}
	}
}

/* Redis comes back without what it had since a save, restart of ours in between or not (P8). */
static void history_30_redis_falls_back(void)
{
	struct world *w = world_new(true, unit_seed());

	for (int round = 0; round < 4 && !unit_failures; round++) {
		work(w, 50);
		drain_or_say(w);
		rds_reply_free(CK(w->conn, "SAVE"));
		for (int i = 0; i < 3; i++) {
			work(w, 50);
			drain_or_say(w);
		}
		give_back(w);
		if (round & 1) {
			atomic_store(&w->relay.refuse, true);
			replayer_down(w);
			REQUIRE(journal_close(w->j) == 0);
		}
		fall_back(w);
		if (round & 1) {
			journal_up(w, false);
			atomic_store(&w->relay.refuse, false);
			replayer_up(w);
		}
		work(w, 50);
		drain_or_say(w);
		compare(w);
		compare_view(w);
		CHECK(round & 1 || status(w).resent > 0);
	}
	world_free(w);
}

struct saves {
	int id[32], n, made;
};

static void save_path(const struct world *w, int id, char out[128])
{
	snprintf(out, 128, "%s/save.%d", w->dir, id);
}

static void save(struct world *w, struct saves *s)
{
	char from[128], to[128];

	if (s->n == 32)
		return;
	rds_reply_free(CK(w->conn, "SAVE"));
	snprintf(from, sizeof(from), "%s/dump.rdb", w->redis.dir);
	save_path(w, s->made, to);
	REQUIRE(link(from, to) == 0);
	s->id[s->n++] = s->made++;
}

/* One of the last few; what came behind it never was. */
static void save_take(struct world *w, struct saves *s)
{
	int at = s->n - 1 - (int)m_rand(w->m, s->n < 4 ? (uint64_t)s->n : 4);
	char from[128], to[128];

	save_path(w, s->id[at], from);
	snprintf(to, sizeof(to), "%s/dump.rdb", w->redis.dir);
	REQUIRE(unlink(to) == 0 && link(from, to) == 0);
	s->n = at + 1;
}

/* A list is to become one slice, or what it shows is to leave one. */
static void compaction(struct world *w)
{
	struct m_inode *f = m_pick(w->m, JFS_FILE);
	uint32_t chunk = (uint32_t)m_rand(w->m, 2);

	if (!f || f->orphan)
		return;
	m_begin(w->m, OP_COMPACT);
	if (m_rand(w->m, 2))
		rec_compact(&w->m->rec, f->ino, chunk);
	else
		rec_repack(&w->m->rec, f->ino, chunk, 1001 + m_rand(w->m, 40 + w->m->seq / 4));
	m_commit(w->m);
	journal_records(w, w->m->seq - 1);
}

/* To any window's end, also once more on the way back, and while we are not there. */
static void it_forgets_at_any_time(void)
{
	uint64_t seed = unit_seed();
	struct world *w = world_new(seed & 1, seed);
	struct saves saves = { .n = 0 };

	work(w, 30);
	drain_or_say(w);
	save(w, &saves);
	for (int round = 0; round < 6 && !unit_failures; round++) {
		for (int n = 1 + (int)m_rand(w->m, 3); n; n--) {
			work(w, 10 + (int)m_rand(w->m, 30));
			compaction(w);
			if (m_rand(w->m, 2))
				drain_or_say(w);
			if (m_rand(w->m, 2))
				save(w, &saves);
		}
		if (m_rand(w->m, 2)) {
			drain_or_say(w);
			give_back(w);
		}
		for (int n = 1 + (int)m_rand(w->m, 2); n; n--) {
			bool crash = m_rand(w->m, 3) == 0;

			atomic_store(&w->relay.refuse, true);
			save_take(w, &saves);
			fall_back(w);
			if (crash)
				again(w, true);
			atomic_store(&w->relay.refuse, false);
			work(w, (int)m_rand(w->m, 10));
		}
		drain_or_say(w);
		compare(w);
		compare_view(w);
	}
	world_free(w);
}

/* A file that was open without a name is closed; Redis forgets that, and another session of ours sends it again. */
static void what_an_earlier_session_held_goes(void)
{
	struct world *w = world_new(false, unit_seed());
	struct m_inode *f;

	rds_reply_free(CK(w->conn, "ZADD allSessions 1 7 1 8"));
	new_file(w, 0);
	applied(w, 0);
	f = &w->m->now.i[w->m->now.i[1].child[0]];
	f->open = true;
	m_unlink(w->m, &w->m->now.i[1], 0);
	applied(w, w->m->seq - 1);
	rds_reply_free(CK(w->conn, "SAVE"));
	m_close(w->m, f);
	applied(w, w->m->seq - 1);
	compare(w);
	atomic_store(&w->relay.refuse, true);
	fall_back(w);
	w->sid = 8;
	again(w, false);
	atomic_store(&w->relay.refuse, false);
	drain_or_say(w);
	compare(w);
	world_free(w);
}

/* --- and somebody wrote there before we did --- */

/* A file of 100 bytes, which Redis has saved, and what `change` does to it, which it forgets. Ours does not reach Redis until
 * remembered(): its list may be changed. */
static struct m_inode *forgotten(struct world *w, void (*change)(struct world *w, struct m_inode *f))
{
	struct m_inode *f;

	new_file(w, 0);
	applied(w, 0);
	rds_reply_free(CK(w->conn, "SAVE"));
	f = &w->m->now.i[w->m->now.i[1].child[0]];
	change(w, f);
	give_back(w);
	atomic_store(&w->relay.refuse, true);
	fall_back(w);
	return f;
}

static void remembered(struct world *w)
{
	atomic_store(&w->relay.refuse, false);
	drain_or_say(w);
	compare(w);
}

static struct jfs_slice only_record(struct world *w, const struct m_inode *f)
{
	redisReply *l = CK(w->conn, "LRANGE c%llu_0 0 -1", (unsigned long long)f->ino);
	struct jfs_slice s;

	REQUIRE(l->elements == 1 && jfs_slice_decode(l->element[0]->str, l->element[0]->len, &s) == 0);
	rds_reply_free(l);
	return s;
}

static void slice_lose(struct world *w, uint64_t id)
{
	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < w->st->n; i++) {
		if (w->st->s[i].id != id)
			continue;
		free(w->st->s[i].bytes);
		w->st->s[i--] = w->st->s[--w->st->n];
	}
	pthread_mutex_unlock(&w->lock);
}

/* The only slice of the file's list becomes n others, as when a stock client compacts it. They are there. */
static void list_moved(struct world *w, const struct m_inode *f, struct jfs_slice was, uint32_t n)
{
	struct jfs_slice s = { .pos = was.pos, .id = was.id + 1000000, .size = was.len / n, .len = was.len / n };
	uint8_t rec[JFS_SLICE_LEN];

	rds_reply_free(CK(w->conn, "DEL c%llu_0", (unsigned long long)f->ino));
	for (; n; n--, s.id++, s.pos += s.len) {
		uint8_t *bytes = malloc(s.len);

		REQUIRE(bytes);
		pthread_mutex_lock(&w->lock);
		memcpy(bytes, store_get(w->st, was.id)->bytes + was.off + s.pos - was.pos, s.len);
		w->st->s[w->st->n++] = (struct ck_slice){ s.id, s.len, bytes };
		pthread_mutex_unlock(&w->lock);
		jfs_slice_encode(&s, rec);
		rds_reply_free(CK(w->conn, "RPUSH c%llu_0 %b", (unsigned long long)f->ino, rec, sizeof(rec)));
	}
}

static void overwritten(struct world *w, struct m_inode *f)
{
	m_write(w->m, f, 0, 0, 100);
	applied(w, w->m->seq - 1);
}

/* A recorded list may show what is to be seen, and yet name a slice, below that, which Redis counts no more. */
static void a_recorded_list_names_what_redis_counts(void)
{
	struct world *w = world_new(false, unit_seed());
	struct m_inode *f = forgotten(w, overwritten);

	list_moved(w, f, only_record(w, f), 1);
	remembered(w);
	world_free(w);
}

static void written_inside(struct world *w, struct m_inode *f)
{
	m_write(w->m, f, 0, 10, 10);
	applied(w, w->m->seq - 1);
}

/* A list that was compacted meanwhile: the window is composed anew, and a copy made later names what Redis names now. */
static void the_view_follows_what_is_composed_anew(void)
{
	struct world *w = world_new(false, unit_seed());
	struct m_inode *f = forgotten(w, written_inside);
	struct jfs_slice s = only_record(w, f);
	uint64_t from;

	list_moved(w, f, s, 1);
	slice_lose(w, s.id);
	remembered(w);
	from = w->m->seq;
	m_copy(w->m, f, 0, 0, m_make(w->m, &w->m->now.i[1], 1, JFS_FILE), 0, 0, 100);
	journal_records(w, from);
	drain_or_say(w);
	compare(w);
	world_free(w);
}

static void written_and_copied(struct world *w, struct m_inode *f)
{
	uint64_t from;

	written_inside(w, f);
	from = w->m->seq;
	m_copy(w->m, f, 0, 10, m_make(w->m, &w->m->now.i[1], 1, JFS_FILE), 0, 0, 10);
	applied(w, from);
}

/* A window that Redis forgot cannot be composed anew as was planned: an object is gone. It is planned once more, with slices of its
 * own; what it had when Redis knew it is not deleted, for a copy names that. */
static void what_was_published_once_is_not_deleted_at_once(void)
{
	struct world *w = world_new(false, unit_seed());
	struct m_inode *f = forgotten(w, written_and_copied);
	struct jfs_slice s = only_record(w, f);

	list_moved(w, f, s, 4);
	atomic_store(&w->hold_uploads, 1);
	atomic_store(&w->relay.refuse, false);
	again(w, false); /* so that it looks at Redis now */
	for (int i = 0; i < 5000 && !held_count(w); i++)
		usleep(1000);
	REQUIRE(held_count(w) == 1);
	for (uint64_t i = 0; i < 4; i++)
		slice_lose(w, s.id + 1000000 + i);
	list_moved(w, f, s, 1);
	atomic_store(&w->hold_uploads, 0);
	held_end(w, 0, false);
	drain_or_say(w);
	CHECK(atomic_load(&w->moved) > 0);
	s = only_record(w, &w->m->now.i[w->m->now.i[1].child[1]]);
	pthread_mutex_lock(&w->lock);
	CHECK(store_get(w->st, s.id));
	pthread_mutex_unlock(&w->lock);
	world_free(w);
}

static void written_and_copied_meanwhile(struct world *w, struct m_inode *f)
{
	struct m_inode *g;
	uint64_t from = w->m->seq;

	new_file(w, 1);
	applied(w, from);
	g = &w->m->now.i[w->m->now.i[1].child[1]];
	from = w->m->seq;
	atomic_store(&w->hold_uploads, 1);
	m_write(w->m, f, 0, 10, 10);
	window_held(w, from);
	from = w->m->seq;
	m_copy(w->m, f, 0, 10, g, 0, 20, 4);
	for (uint32_t at = 0; at < 100; at += 40)
		m_write(w->m, g, 0, at, 5);
	journal_records(w, from);
	atomic_store(&w->hold_uploads, 0);
	held_end(w, 0, false);
	drain_or_say(w);
}

/* Of bytes that were staged once, the first four also became part of another file's slice. Where all of them are is known. */
static void a_copy_of_the_first_bytes_hides_none(void)
{
	struct world *w = world_new(false, unit_seed());
	struct m_inode *f = forgotten(w, written_and_copied_meanwhile);

	list_moved(w, f, only_record(w, f), 4);
	atomic_store(&w->relay.refuse, false);
	again(w, false);
	for (int i = 0; i < 5000 && !atomic_load(&w->moved); i++)
		usleep(1000);
	CHECK(atomic_load(&w->moved) > 0);
	wait_windows(w, 0);
	CHECK_EQ(status(w).state, REPLAY_RUNNING);
	if (!unit_failures)
		remembered(w);
	world_free(w);
}

PACKED(history_30_redis_falls_back)
PACKED(it_forgets_at_any_time)

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{ "history_30_redis_falls_back", history_30_redis_falls_back },
		{ "history_30_redis_falls_back_packed", history_30_redis_falls_back_packed },
		{ "it_forgets_at_any_time", it_forgets_at_any_time },
		{ "it_forgets_at_any_time_packed", it_forgets_at_any_time_packed },
		{ "what_an_earlier_session_held_goes", what_an_earlier_session_held_goes },
		{ "a_recorded_list_names_what_redis_counts", a_recorded_list_names_what_redis_counts },
		{ "the_view_follows_what_is_composed_anew", the_view_follows_what_is_composed_anew },
		{ "a_copy_of_the_first_bytes_hides_none", a_copy_of_the_first_bytes_hides_none },
		{ "what_was_published_once_is_not_deleted_at_once", what_was_published_once_is_not_deleted_at_once },
		{ NULL, NULL },
	};

	signal(SIGPIPE, SIG_IGN);
	return unit_main(argc, argv, tests);
}
