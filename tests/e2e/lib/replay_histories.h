/* Directed cases of replay_script.c, named after shared histories (DESIGN 3.5). Included there. */

static char *digest(void)
{
	redisReply *r = CK(conn, "DEBUG DIGEST");
	char *d = strdup(r->str);

	rds_reply_free(r);
	return d;
}

static struct m_inode *top(struct driver *d)
{
	return &d->m->now.i[1];
}

/* Truncate 10 then ftruncate 100 of a published 100-byte file inside one window: the old bytes must not come back. */
static void history_31_truncate_then_extend(void)
{
	struct driver *d = driver_new(false, 31);
	struct m_inode *f = m_make(d->m, top(d), 0, JFS_FILE);

	m_write(d->m, f, 0, 0, 100);
	window(d, d->m->seq);
	m_truncate(d->m, f, 10);
	m_truncate(d->m, f, 100);
	window(d, d->m->seq);
	m_truncate(d->m, f, 0); /* : > f; echo data > f */
	m_write(d->m, f, 0, 0, 5);
	window(d, d->m->seq);
	driver_free(d);
}

/* A wrong type anywhere: nothing of the script remains, and the retry does not double deltas. */
static void history_32_wrong_type_changes_nothing(void)
{
	static const char *const spoil[][2] = {
		{ "RENAME sliceRef zkeep", "" }, { "RENAME dirUsedInodes zkeep", "dirUsedInodes" }, { "RENAME i2 zkeep", "i2" },
		{ "RENAME d1 zkeep", "d1" }, { "RENAME c2_0 zkeep", "c2_0" }, { "RENAME usedSpace zkeep", "usedSpace" },
		{ "RENAME d3 zkeep", "d3" },
	};

	for (size_t i = 1; i < sizeof(spoil) / sizeof(spoil[0]); i++) {
		struct driver *d = driver_new(false, 32 + i);
		struct m_inode *f = m_make(d->m, top(d), 0, JFS_FILE), *dir;
		struct window_plan *p;
		struct script_ctx ctx = { .prev = d->pos, .sid = 7, .now = 1700000000 };
		struct buf a;
		struct redisReply *r = NULL;
		struct errmsg e;
		char *before, *after;
		int err;

		dir = m_make(d->m, top(d), 1, JFS_DIR);
		m_make(d->m, dir, 0, JFS_FILE);
		m_write(d->m, f, 0, 0, 100);
		window(d, d->m->seq);
		m_write(d->m, f, 0, 50, 100);
		m_copy(d->m, f, 0, 0, f, 0, 200, 20);
		m_unlink(d->m, dir, 0);
		m_make(d->m, dir, 2, JFS_FILE);
		for (int n = 2; n < M_NAMES; n++)
			m_make(d->m, top(d), n, JFS_FILE);
		p = make_plan(d, d->pos.seq, d->m->seq, NULL);
		for (size_t k = 0; k < p->slices.n; k++)
			upload(d, &p->slices.v[k].s);
		rds_reply_free(CK(conn, spoil[i][0]));
		rds_reply_free(CK(conn, i & 1 ? "SET %s 12x" : "ZADD %s 1 wrong", spoil[i][1]));
		before = digest();
		ctx.prev = d->pos;
		ctx.seq = p->end;
		strcpy(ctx.chain, "x");
		REQUIRE(script_encode(p, &ctx, &a) == 0);
		err = rds_script_call(conn, &apply, &r, &e, 0, 1, (const char *[]){ (const char *)a.data }, &a.len);
		if (!err) {
			struct script_answer ans;

			REQUIRE(script_parse(r, &ans) == 0);
			CHECK(ans.status != SCRIPT_OK && ans.status != SCRIPT_GAP);
		}
		after = digest();
		CHECK_STR(after, before);
		rds_reply_free(r);
		buf_fini(&a);
		rds_reply_free(CK(conn, "RENAME zkeep %s", spoil[i][1]));
		CHECK_EQ(send(d, p, 0).status, SCRIPT_OK);
		adopt(d, p);
		check_redis(conn, &d->m->hist[p->end], d->st);
		plan_free(p);
		free(before);
		free(after);
		driver_free(d);
	}
}

/* A script that comes a second time, or before its predecessor, or with an old token, changes nothing. */
static void history_33_late_and_early_scripts(void)
{
	struct driver *d = driver_new(false, 33);
	struct window_plan *p;
	struct rds_position old;
	char *before, *after;

	m_make(d->m, top(d), 0, JFS_FILE);
	p = make_plan(d, 0, d->m->seq, NULL);
	old = d->pos;
	d->pos.seq = 99; /* as if something were in between */
	before = digest();
	CHECK_EQ(send(d, p, 0).status, SCRIPT_GAP);
	d->pos = old;
	d->pos.epoch = 2;
	CHECK_EQ(send(d, p, 0).status, SCRIPT_FENCED);
	d->pos.epoch = 4;
	CHECK_EQ(send(d, p, 0).status, SCRIPT_FORGOT);
	after = digest();
	CHECK_STR(after, before);
	d->pos = old;
	CHECK_EQ(send(d, p, 0).status, SCRIPT_OK);
	free(before);
	before = digest();
	old.epoch = 3;
	d->pos = old;
	CHECK_EQ(send(d, p, 0).status, SCRIPT_GAP);
	free(after);
	after = digest();
	CHECK_STR(after, before);
	free(before);
	free(after);
	plan_free(p);
	driver_free(d);
}

/* Windows n and n+1 touch the same chunk; a stock client compacts it; n is refused, n+1 with it; both are built anew. */
static void history_34_list_changed_behind_us(void)
{
	struct driver *d = driver_new(false, 34);
	struct m_inode *f = m_make(d->m, top(d), 0, JFS_FILE);
	struct ck_slice *o;
	uint8_t rec[24];
	struct jfs_slice s = { .id = 77, .pos = 0, .size = 50, .len = 50 };
	struct window_plan *p;

	m_write(d->m, f, 0, 0, 50);
	window(d, d->m->seq);
	pub_load(d, f->ino, 0);
	o = &d->st->s[d->st->n++];
	*o = (struct ck_slice){ 77, 50, malloc(50) };
	REQUIRE(o->bytes);
	memcpy(o->bytes, f->data[0], 50);
	jfs_slice_encode(&s, rec);
	rds_reply_free(CK(conn, "DEL c%llu_0", (unsigned long long)f->ino));
	rds_reply_free(CK(conn, "RPUSH c%llu_0 %b", (unsigned long long)f->ino, rec, (size_t)24));
	m_write(d->m, f, 0, 20, 10);
	p = make_plan(d, d->pos.seq, d->m->seq, NULL);
	CHECK_EQ(send(d, p, 0).status, SCRIPT_LIST);
	plan_free(p);
	memset(d->pub, 0, sizeof(d->pub));
	window(d, d->m->seq);
	m_write(d->m, f, 0, 25, 10);
	window(d, d->m->seq);
	driver_free(d);
}

static long long dead_count(void)
{
	redisReply *r = CK(conn, "HLEN zjfs.dead");
	long long n = r->integer;

	rds_reply_free(r);
	return n;
}

/* copy_file_range of a published file; then both overwritten and deleted, in all orders, with windows anywhere. */
static void history_36_copies_in_all_orders(void)
{
	for (int order = 0; order < 24; order++) {
		for (int cut = 0; cut < 32; cut += 1 + (order > 5)) {
			struct driver *d = driver_new(false, 36);
			struct m_inode *f = m_make(d->m, top(d), 0, JFS_FILE), *g = m_make(d->m, top(d), 1, JFS_FILE);
			int ops[4] = { 0, 1, 2, 3 }, left = order;

			for (int i = 0; i < 4; i++) { /* the order-th permutation */
				int pick = left % (4 - i), t = ops[i + pick];

				left /= 4 - i;
				ops[i + pick] = ops[i];
				ops[i] = t;
			}
			m_write(d->m, f, 0, 0, 100);
			window(d, d->m->seq);
			m_copy(d->m, f, 0, 0, g, 0, 0, 100);
			if (cut & 1)
				window(d, d->m->seq);
			for (int i = 0; i < 4; i++) {
				if (ops[i] == 0 && d->m->now.i[1].child[0])
					m_write(d->m, f, 0, 10, 20);
				if (ops[i] == 1 && d->m->now.i[1].child[1])
					m_write(d->m, g, 0, 0, 100);
				if (ops[i] == 2)
					m_unlink(d->m, top(d), 0);
				if (ops[i] == 3)
					m_unlink(d->m, top(d), 1);
				if (cut & (2 << i))
					window(d, d->m->seq);
			}
			if (!(cut & 16))
				window(d, d->m->seq);
			CHECK(dead_count() >= 1); /* the shared slice went with the last */
			driver_free(d);
			if (unit_failures) {
				fprintf(stderr, "order %d cut %d\n", order, cut);
				return;
			}
		}
	}
}

/* Two files share a slice: one published, removed, the other published; in three windows. */
static void history_37_shared_slice(void)
{
	struct driver *d = driver_new(false, 37);
	struct m_inode *a = m_make(d->m, top(d), 0, JFS_FILE), *b;

	m_write(d->m, a, 0, 0, 100);
	window(d, d->m->seq);
	b = m_make(d->m, top(d), 1, JFS_FILE);
	m_copy(d->m, a, 0, 0, b, 0, 0, 100);
	m_unlink(d->m, top(d), 0);
	window(d, d->m->seq);
	CHECK_EQ(dead_count(), 0);
	m_unlink(d->m, top(d), 1);
	window(d, d->m->seq);
	CHECK_EQ(dead_count(), 1);
	driver_free(d);
}

/* The same with two files whose bytes were put into one slice from the start, in both orders. */
static void history_37_packed_slice(void)
{
	for (int first = 0; first < 2; first++) {
		struct driver *d = driver_new(false, 37);

		d->pack_size = 4096;
		for (int name = 0; name < 2; name++)
			m_write(d->m, m_make(d->m, top(d), name, JFS_FILE), 0, 0, 100);
		window(d, d->m->seq);
		CHECK_EQ(d->st->n, 1);
		m_unlink(d->m, top(d), first);
		window(d, d->m->seq);
		CHECK_EQ(dead_count(), 0);
		m_unlink(d->m, top(d), !first);
		window(d, d->m->seq);
		CHECK_EQ(dead_count(), 1);
		driver_free(d);
	}
}

/* ln a b; rm a with the trash on: the trash has a name of it, and when that expires b keeps its data. */
static void history_38_trash_of_a_linked_file(void)
{
	for (int split = 0; split < 2; split++) {
		struct driver *d = driver_new(true, 38);
		struct m_inode *f = m_make(d->m, top(d), 0, JFS_FILE);
		struct jfs_attr a;
		redisReply *r;

		m_write(d->m, f, 0, 0, 10);
		window(d, d->m->seq);
		m_link(d->m, f, top(d), 1);
		if (split)
			window(d, d->m->seq);
		m_unlink(d->m, top(d), 0);
		window(d, d->m->seq);
		r = CK(conn, "HGET d9223372032828243969 1-%llu-a", (unsigned long long)f->ino);
		CHECK_EQ(r->type, REDIS_REPLY_STRING);
		rds_reply_free(r);
		r = CK(conn, "GET i%llu", (unsigned long long)f->ino);
		REQUIRE(jfs_attr_decode(r->str, r->len, &a) == 0);
		CHECK_EQ(a.nlink, 2); /* what stock lowers by one when the entry expires */
		rds_reply_free(r);
		driver_free(d);
	}
}

/* The trash: a published file removed under another name, one never published, a directory, the hour's bookkeeping. */
static void trash_moves(void)
{
	struct driver *d = driver_new(true, 39);
	struct m_inode *f = m_make(d->m, top(d), 0, JFS_FILE), *dir = m_make(d->m, top(d), 1, JFS_DIR);
	redisReply *r;

	window(d, d->m->seq);
	m_rename(d->m, top(d), 0, top(d), 3);
	m_unlink(d->m, top(d), 3);
	m_make(d->m, top(d), 4, JFS_FILE);
	m_unlink(d->m, top(d), 4);
	m_unlink(d->m, top(d), 1);
	window(d, d->m->seq);
	(void)f;
	(void)dir;
	r = CK(conn, "HKEYS d9223372032828243969");
	CHECK_EQ(r->elements, 2);
	rds_reply_free(r);
	r = CK(conn, "HGET d9223372032828243968 2023-11-14-22");
	CHECK_EQ(r->type, REDIS_REPLY_STRING);
	rds_reply_free(r);
	driver_free(d);
}

/* A foreign entry under a name of ours: the answer says which and what is there, nothing is changed. */
static void history_57_foreign_entry_is_named(void)
{
	struct driver *d = driver_new(false, 57);
	uint8_t v[9];
	struct script_answer a;
	struct window_plan *p;
	char *before, *after;

	m_make(d->m, top(d), 0, JFS_FILE);
	jfs_dentry_encode(JFS_FILE, 4242, v);
	rds_reply_free(CK(conn, "HSET d1 a %b", v, sizeof(v)));
	p = make_plan(d, 0, d->m->seq, NULL);
	before = digest();
	a = send(d, p, 0);
	after = digest();
	CHECK_EQ(a.status, SCRIPT_ENTRY);
	CHECK_STR(a.key, "d1");
	CHECK(a.field_len == 1 && a.field[0] == 'a');
	CHECK(a.value_len == 9 && get_be64(a.value + 1) == 4242);
	CHECK_STR(after, before);
	free(before);
	free(after);
	plan_free(p);
	driver_free(d);
}

/* Old ctimes are sent as younger than what gc deletes; also of a file that shares a slice, and of one that changes the next window. */
static void history_42_old_ctimes(void)
{
	for (uint32_t pack_size = 0; pack_size <= 4096; pack_size += 4096) {
		struct driver *d = driver_new(false, 42);
		struct m_inode *f = m_make(d->m, top(d), 0, JFS_FILE);

		d->pack_size = pack_size;
		m_write(d->m, f, 0, 0, 100);
		for (int64_t now = 1700007200; now <= 1700007300; now += 100) {
			struct window_plan *p = make_plan(d, d->pos.seq, d->m->seq, NULL);
			struct jfs_attr a;
			redisReply *r;

			CHECK_EQ(send(d, p, now).status, SCRIPT_OK);
			adopt(d, p);
			r = CK(conn, "GET i%llu", (unsigned long long)f->ino);
			REQUIRE(jfs_attr_decode(r->str, r->len, &a) == 0);
			CHECK_EQ(a.ctime, now);
			rds_reply_free(r);
			plan_free(p);
			m_write(d->m, f, 0, 50, 100);
		}
		driver_free(d);
	}
}

static double redis_cpu(void)
{
	redisReply *r = CK(conn, "INFO cpu");
	const char *u = strstr(r->str, "used_cpu_user:"), *s = strstr(r->str, "used_cpu_sys:");
	double t;

	REQUIRE(u && s);
	t = atof(u + 14) + atof(s + 13);
	rds_reply_free(r);
	return t;
}

/* The records from + 1 .. to: each creates inode 100 + record, of 1 KB, as file-INODE in the root. */
static struct window_plan *creates_plan(struct driver *d, uint64_t from, uint64_t to)
{
	struct inode_val dir = { .attr = { .type = JFS_DIR, .mode = 0777, .nlink = 2, .length = 4096, .parent = 1 } };
	struct coalesce_in in = { d, cb_published, cb_smap, cb_orphan, cb_slice };
	struct coalesce *co = coalesce_new();
	struct window_plan *p;
	struct rec rec;

	rec_init(&rec);
	for (uint64_t seq = from + 1; seq <= to; seq++) {
		struct inode_val v = { .attr = { .type = JFS_FILE, .mode = 0644, .nlink = 1, .length = 1024, .parent = 1 } };
		struct extent_val e = { .len = 1024, .kind = EXT_STAGED, .segment = 1, .off = (uint32_t)seq * 1024, .run_len = 1024 };
		uint64_t ino = 100 + seq;
		uint8_t entry[9];
		char name[32];
		struct jkey k;

		e.run_off = e.off;
		rec_begin(&rec, OP_CREATE, 1);
		rec_put_inode(&rec, ino, &v, IF_NEW);
		rec_put_inode(&rec, 1, &dir, 0);
		key_dentry(&k, 1, name, (size_t)snprintf(name, sizeof(name), "file-%llu", (unsigned long long)ino));
		jfs_dentry_encode(JFS_FILE, ino, entry);
		rec_expect(&rec, &k, NULL, 0);
		rec_put(&rec, &k, entry, 9, 0);
		rec_dirstat(&rec, 1, 1024, 4096, 1);
		rec_put_extent(&rec, ino, 0, &e, IF_NEW);
		REQUIRE(rec_finish(&rec) == 0);
		REQUIRE(coalesce_feed(co, seq, rec.buf.data, rec.buf.len) == 0);
	}
	REQUIRE(coalesce_plan(co, &in, from, to, &p) == 0);
	coalesce_free(co);
	rec_fini(&rec);
	return p;
}

/* Redis CPU per created file of 1 KB: 10,000 in windows of 500; printed, not judged. */
static void redis_cpu_per_file(void)
{
	struct driver *d = driver_new(false, 1);
	double cpu = redis_cpu();

	for (uint64_t seq = 0; seq < 10000; seq += 500) {
		struct window_plan *p = creates_plan(d, seq, seq + 500);

		CHECK_EQ(send(d, p, 0).status, SCRIPT_OK);
		plan_free(p);
	}
	fprintf(stderr, "  redis cpu per created file: %.2f us\n", (redis_cpu() - cpu) * 1e6 / 10000);
	CHECK_EQ(ck_int(conn, "usedSpace"), 10000 * 4096);
	driver_free(d);
}

/* Keys of new inodes that are there already, in the first and the second command that writes records: the script names
 * them and leaves everything as it was. */
static void what_is_there_is_not_written_over(void)
{
	static const char *const there[] = { "i101", "i2600", "i4600", "c101_0", "c4600_0" };
	struct driver *d = driver_new(false, 1);
	struct window_plan *p = creates_plan(d, 0, 4500);

	for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++) {
		struct script_answer a;
		char *before, *after;

		rds_reply_free(CK(conn, i & 1 ? "SET %s x" : "RPUSH %s x", there[i]));
		before = digest();
		a = send(d, p, 0);
		after = digest();
		CHECK_EQ(a.status, SCRIPT_EXISTS);
		CHECK_STR(a.key, there[i]);
		CHECK_STR(after, before);
		rds_reply_free(CK(conn, "DEL %s", there[i]));
		free(before);
		free(after);
	}
	CHECK_EQ(send(d, p, 0).status, SCRIPT_OK);
	CHECK_EQ(ck_int(conn, "totalInodes"), 4500);
	plan_free(p);
	driver_free(d);
}

#define HISTORY_TESTS                                                                                                 \
	{ "history_31_truncate_then_extend", history_31_truncate_then_extend },                                       \
		{ "history_32_wrong_type_changes_nothing", history_32_wrong_type_changes_nothing },                   \
		{ "history_33_late_and_early_scripts", history_33_late_and_early_scripts },                           \
		{ "history_34_list_changed_behind_us", history_34_list_changed_behind_us },                           \
		{ "history_36_copies_in_all_orders", history_36_copies_in_all_orders },                               \
		{ "history_37_shared_slice", history_37_shared_slice },                                               \
		{ "history_37_packed_slice", history_37_packed_slice },                                               \
		{ "history_38_trash_of_a_linked_file", history_38_trash_of_a_linked_file },                           \
		{ "history_42_old_ctimes", history_42_old_ctimes },                                                   \
		{ "history_57_foreign_entry_is_named", history_57_foreign_entry_is_named },                           \
		{ "what_is_there_is_not_written_over", what_is_there_is_not_written_over },                           \
		{ "trash_moves", trash_moves }, { "redis_cpu_per_file", redis_cpu_per_file }
