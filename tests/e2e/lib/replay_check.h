/* What Redis must hold when the records up to k were applied: compared with the model, and with itself (reference counts,
 * counters, statistics, link counts are recounted). */
#ifndef JFS_TESTS_REPLAY_CHECK_H
#define JFS_TESTS_REPLAY_CHECK_H

#include "redis/keys.h"
#include "tests/e2e/lib/redis_here.h"
#include "tests/e2e/lib/replay_model.h"

#define CK_MAX 4096

struct ck_slice {
	uint64_t id;
	uint32_t size;
	uint8_t *bytes;
};
struct store { /* the fake object store: whole slices */
	struct ck_slice s[1 << 16];
	size_t n;
};

static const struct ck_slice *store_get(const struct store *st, uint64_t id)
{
	for (size_t i = st->n; i-- > 0;)
		if (st->s[i].id == id)
			return &st->s[i];
	return NULL;
}

#define CK(c, ...)                                                                                                    \
	({                                                                                                            \
		struct redisReply *r_ = NULL;                                                                         \
		struct errmsg e_;                                                                                     \
		int err_ = rds_cmd(c, &r_, &e_, __VA_ARGS__);                                                         \
		if (err_)                                                                                             \
			fprintf(stderr, "%s\n", e_.text);                                                             \
		REQUIRE(err_ == 0);                                                                                   \
		r_;                                                                                                   \
	})

static long long ck_int(struct rds_conn *c, const char *key)
{
	redisReply *r = CK(c, "GET %s", key);
	long long v = r->type == REDIS_REPLY_STRING ? atoll(r->str) : 0;

	rds_reply_free(r);
	return v;
}

static long long ck_hint(struct rds_conn *c, const char *key, const char *field)
{
	redisReply *r = CK(c, "HGET %s %s", key, field);
	long long v = r->type == REDIS_REPLY_STRING ? atoll(r->str) : -1;

	rds_reply_free(r);
	return v;
}

struct ck_inode {
	uint64_t ino;
	struct jfs_attr a;
	uint32_t names, trash_names, subdirs;
	int64_t st_len, st_space, st_inodes;
	bool sustained;
};
static size_t ck_longest; /* list that was seen, in records */

struct ck {
	struct ck_inode i[CK_MAX];
	size_t n;
	struct {
		uint64_t id;
		uint32_t size;
		long long records;
	} ref[CK_MAX];
	size_t refs;
};

static struct ck_inode *ck_find(struct ck *k, uint64_t ino)
{
	for (size_t i = 0; i < k->n; i++)
		if (k->i[i].ino == ino)
			return &k->i[i];
	return NULL;
}

static void ck_ref(struct ck *k, const struct jfs_slice *s)
{
	size_t i;

	for (i = 0; i < k->refs && (k->ref[i].id != s->id || k->ref[i].size != s->size); i++)
		;
	if (i == k->refs) {
		REQUIRE(k->refs < CK_MAX);
		k->ref[k->refs++].id = s->id;
		k->ref[i].size = s->size;
		k->ref[i].records = 0;
	}
	k->ref[i].records++;
}

static const struct m_inode *ck_model(const struct m_state *s, uint64_t ino)
{
	for (int i = 1; i < M_INODES; i++)
		if (s->i[i].ino == ino)
			return &s->i[i];
	return NULL;
}

/* Loads records, entries and sustained sets. */
static void ck_load(struct rds_conn *c, struct ck *k)
{
	redisReply *keys = CK(c, "KEYS *");

	for (size_t i = 0; i < keys->elements; i++) {
		const char *key = keys->element[i]->str;
		uint64_t ino;

		if (rds_parse_inode_key(key, strlen(key), 'i', &ino) == 0) {
			redisReply *r = CK(c, "GET %s", key);

			REQUIRE(k->n < CK_MAX);
			k->i[k->n].ino = ino;
			CHECK(jfs_attr_decode(r->str, r->len, &k->i[k->n].a) == 0);
			k->n++;
			rds_reply_free(r);
		}
	}
	for (size_t i = 0; i < keys->elements; i++) {
		const char *key = keys->element[i]->str;
		uint64_t dir;
		redisReply *r;

		if (strncmp(key, "session", 7) == 0 && key[7] >= '0' && key[7] <= '9') {
			r = CK(c, "SMEMBERS %s", key);
			for (size_t m = 0; m < r->elements; m++) {
				struct ck_inode *ci = ck_find(k, strtoull(r->element[m]->str, NULL, 10));

				CHECK(ci);
				if (ci)
					ci->sustained = true;
			}
			rds_reply_free(r);
		}
		if (rds_parse_inode_key(key, strlen(key), 'd', &dir) != 0)
			continue;
		r = CK(c, "HGETALL %s", key);
		for (size_t m = 0; m + 1 < r->elements; m += 2) {
			struct ck_inode *d = ck_find(k, dir), *ci;
			uint64_t ino;
			uint8_t type;

			CHECK(d || dir == JFS_TRASH_INODE);
			REQUIRE(jfs_dentry_decode(r->element[m + 1]->str, r->element[m + 1]->len, &type, &ino) == 0);
			ci = ck_find(k, ino);
			CHECK(ci);
			if (!ci)
				continue;
			CHECK_EQ(ci->a.type, type);
			if (dir > JFS_TRASH_INODE)
				ci->trash_names++;
			else
				ci->names++;
			if (d) {
				d->subdirs += type == JFS_DIR;
				d->st_len += type == JFS_FILE ? (int64_t)ci->a.length : 0;
				d->st_space += (int64_t)jfs_attr_space(&ci->a);
				d->st_inodes++;
			}
		}
		rds_reply_free(r);
	}
	rds_reply_free(keys);
}

static void ck_content(struct rds_conn *c, struct ck *k, const struct store *st, const struct m_inode *mi, uint64_t ino, bool compare)
{
	for (int chunk = 0; chunk < 2; chunk++) {
		redisReply *r = CK(c, "LRANGE c%llu_%d 0 -1", (unsigned long long)ino, chunk);
		uint8_t seen[M_WIN] = { 0 };

		for (size_t i = 0; i < r->elements; i++) {
			const struct ck_slice *sl = NULL;
			struct jfs_slice s;

			REQUIRE(jfs_slice_decode(r->element[i]->str, r->element[i]->len, &s) == 0);
			if (s.id) {
				ck_ref(k, &s);
				sl = store_get(st, s.id);
				CHECK(sl); /* never a name without its data */
				if (sl)
					CHECK_EQ(sl->size, s.size);
			}
			for (uint32_t b = 0; b < s.len && s.pos + b < M_WIN; b++)
				seen[s.pos + b] = sl ? sl->bytes[s.off + b] : 0;
		}
		CHECK(r->elements <= 110);
		ck_longest = r->elements > ck_longest ? r->elements : ck_longest;
		if (compare && mi && memcmp(seen, mi->data[chunk], M_WIN) != 0) {
			for (int b = 0; b < M_WIN; b++) {
				uint64_t at = ((uint64_t)chunk << JFS_CHUNK_BITS) + (uint64_t)b;

				if (seen[b] != mi->data[chunk][b]) {
					fprintf(stderr, "inode %llu chunk %d byte %d (length %llu at %llu): %d, should be %d\n",
						(unsigned long long)ino, chunk, b, (unsigned long long)mi->a.length,
						(unsigned long long)at, seen[b], mi->data[chunk][b]);
					break;
				}
			}
			unit_failures++;
		}
		rds_reply_free(r);
	}
}

static void ck_inode_check(struct rds_conn *c, struct ck *k, struct ck_inode *ci, const struct m_state *s, const struct store *st)
{
	const struct m_inode *mi = ck_model(s, ci->ino);
	char key[RDS_KEY_MAX], f[RDS_KEY_MAX];

	rds_decimal(f, ci->ino);
	if (ci->ino >= JFS_TRASH_INODE) {
		CHECK_EQ(ci->a.type, JFS_DIR);
		for (size_t i = 0; i < k->n; i++)
			if (k->i[i].trash_names && k->i[i].a.parent == 0)
				return; /* its later growth is not followed into every hour directory */
		CHECK_EQ(ck_hint(c, "dirUsedSpace", f), ci->st_space);
		CHECK_EQ(ck_hint(c, "dirUsedInodes", f), ci->st_inodes);
		CHECK_EQ(ck_hint(c, "dirDataLength", f), ci->st_len);
		return;
	}
	CHECK(ci->ino == 1 || ci->names + ci->trash_names > 0 || ci->sustained);
	CHECK(!ci->sustained || ci->names + ci->trash_names == 0);
	if (ci->a.type != JFS_DIR)
		CHECK_EQ(ci->a.nlink, ci->names + ci->trash_names);
	if (ci->a.type == JFS_DIR && (ci->names || ci->ino == 1)) {
		CHECK_EQ(ci->a.nlink, 2 + ci->subdirs);
		CHECK_EQ(ck_hint(c, "dirUsedSpace", f), ci->st_space);
		CHECK_EQ(ck_hint(c, "dirUsedInodes", f), ci->st_inodes);
		CHECK_EQ(ck_hint(c, "dirDataLength", f), ci->st_len);
	}
	if (ci->a.parent == 0) {
		redisReply *r;
		uint32_t sum = 0;

		rds_key_parents(key, NULL, ci->ino);
		r = CK(c, "HVALS %s", key);
		for (size_t i = 0; i < r->elements; i++) {
			CHECK(atoi(r->element[i]->str) >= 0);
			sum += (uint32_t)atoi(r->element[i]->str);
		}
		rds_reply_free(r);
		if (!ci->sustained)
			CHECK_EQ(sum, ci->names + ci->trash_names);
	}
	if (mi && ci->names) {
		struct jfs_attr a = mi->a;

		a.nlink = ci->a.nlink;
		if (ci->a.ctime > a.ctime && ci->a.ctime_nsec == 0 && llabs(ci->a.ctime - (time(NULL) - 1800)) < 300)
			a.ctime = ci->a.ctime; /* sent as younger than gc's limit (spec 10.2) */
		if (!jfs_attr_equal(&a, &ci->a)) {
			fprintf(stderr, "inode %llu: record differs: length %llu/%llu parent %llu/%llu ctime %lld/%lld\n",
				(unsigned long long)ci->ino, (unsigned long long)ci->a.length, (unsigned long long)a.length,
				(unsigned long long)ci->a.parent, (unsigned long long)a.parent, (long long)ci->a.ctime, (long long)a.ctime);
			unit_failures++;
		}
		rds_key_xattr(key, NULL, ci->ino);
		redisReply *r = CK(c, "HGET %s user.x", key);
		CHECK_EQ(r->type == REDIS_REPLY_STRING ? (uint8_t)r->str[0] : 0, mi->xattr);
		rds_reply_free(r);
	}
	if (ci->a.type == JFS_FILE)
		ck_content(c, k, st, mi, ci->ino, mi && (ci->names || (ci->trash_names && mi->orphan)));
}

static void ck_names(struct rds_conn *c, struct ck *k, const struct m_state *s)
{
	for (int i = 1; i < M_INODES; i++) {
		const struct m_inode *d = &s->i[i];
		struct ck_inode *ci = d->ino ? ck_find(k, d->ino) : NULL;

		if (!d->ino)
			continue;
		if (d->names)
			CHECK(ci);
		for (int n = 0; n < M_NAMES && d->a.type == JFS_DIR; n++) {
			char name = (char)('a' + n);
			redisReply *r = CK(c, "HGET d%llu %b", (unsigned long long)d->ino, &name, (size_t)1);
			uint64_t ino = 0;
			uint8_t type;

			if (r->type == REDIS_REPLY_STRING)
				REQUIRE(jfs_dentry_decode(r->str, r->len, &type, &ino) == 0);
			CHECK_EQ(ino, d->child[n] ? s->i[d->child[n]].ino : 0);
			rds_reply_free(r);
		}
	}
}

static void check_redis(struct rds_conn *c, const struct m_state *s, const struct store *st)
{
	struct ck *k = calloc(1, sizeof(*k));
	long long space = 0, inodes = 0;
	redisReply *r;

	REQUIRE(k);
	ck_load(c, k);
	for (size_t i = 0; i < k->n; i++) {
		ck_inode_check(c, k, &k->i[i], s, st);
		if (k->i[i].ino != 1 && k->i[i].ino != JFS_TRASH_INODE) {
			space += (long long)jfs_attr_space(&k->i[i].a);
			inodes++;
		}
	}
	ck_names(c, k, s);
	CHECK_EQ(ck_int(c, "usedSpace"), space);
	CHECK_EQ(ck_int(c, "totalInodes"), inodes);
	for (size_t i = 0; i < k->refs; i++) {
		char f[RDS_KEY_MAX];
		long long v;

		rds_field_slice_ref(f, k->ref[i].id, k->ref[i].size);
		v = ck_hint(c, "sliceRef", f);
		CHECK_EQ(v < 0 ? 0 : v, k->ref[i].records - 1);
		CHECK_EQ(ck_hint(c, "zjfs.dead", f), -1);
	}
	r = CK(c, "HLEN sliceRef");
	for (size_t i = 0; i < k->refs; i++)
		r->integer -= k->ref[i].records > 1;
	CHECK_EQ(r->integer, 0);
	rds_reply_free(r);
	r = CK(c, "KEYS c*_*"); /* no list without its inode */
	for (size_t i = 0; i < r->elements; i++) {
		uint64_t ino;
		uint32_t chunk;

		REQUIRE(rds_parse_chunk_key(r->element[i]->str, r->element[i]->len, &ino, &chunk) == 0);
		CHECK(ck_find(k, ino));
	}
	rds_reply_free(r);
	free(k);
}

#endif
