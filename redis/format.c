/* Stock writes the three keys one by one; a script makes it all or nothing, and checks in the same instant that the
 * database is ours to take. */
#include "redis/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "redis/keys.h"
#include "util/jfsfmt.h"

/* KEYS: setting, i1, i{trash root}. ARGV: setting, record of the root, record of the trash root or "". */
static const char create_lua[] =
	"if redis.call('EXISTS', KEYS[1]) == 1 then return 'EXISTS' end\n"
	"if redis.call('DBSIZE') > 0 then return 'FOREIGN' end\n"
	"if ARGV[3] ~= '' then redis.call('SET', KEYS[3], ARGV[3]) end\n"
	"redis.call('SET', KEYS[1], ARGV[1])\n"
	"redis.call('SET', KEYS[2], ARGV[2])\n"
	"return 'OK'\n";

/* KEYS: setting, i{trash root}. ARGV: old setting, new setting, record of the trash root or "". */
static const char update_lua[] =
	"if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'CHANGED' end\n"
	"if ARGV[3] ~= '' then redis.call('SETNX', KEYS[2], ARGV[3]) end\n"
	"redis.call('SET', KEYS[1], ARGV[2])\n"
	"return 'OK'\n";

static size_t directory_record(uint16_t mode, int64_t now, uint8_t out[JFS_ATTR_MAX])
{
	struct jfs_attr a = {.type = JFS_DIR, .mode = mode, .atime = now, .mtime = now, .ctime = now, .nlink = 2,
		.length = 4096, .parent = JFS_ROOT_INODE};

	return jfs_attr_encode(&a, out);
}

/* Calls a script that answers with one word. */
static int call_word(struct rds_conn *c, const char *lua, int nkeys, int argc, const char **argv, const size_t *lens,
	char word[16], struct errmsg *e)
{
	struct redisReply *r = NULL;
	struct rds_script script;

	rds_script_init(&script, lua);
	int rc = rds_script_call(c, &script, &r, e, nkeys, argc, argv, lens);
	if (rc == 0 && (r->type != REDIS_REPLY_STRING || r->len > 15))
		rc = errmsg_set(e, -EREMOTEIO, "Redis at %s gave an unexpected answer", rds_conn_name(c));
	if (rc == 0)
		memcpy(word, r->str, r->len + 1);
	rds_reply_free(r);
	return rc;
}

static int foreign_message(struct rds_conn *c, struct errmsg *e)
{
	return errmsg_set(e, -ENOTEMPTY,
		"the Redis database at %s holds keys but no volume: give the number of an empty database in META-URL",
		rds_conn_name(c));
}

int rds_volume_create(struct rds_conn *c, const struct rds_setting *s, int64_t now, struct errmsg *e)
{
	uint8_t root[JFS_ATTR_MAX], trash[JFS_ATTR_MAX];
	char trash_key[RDS_KEY_MAX], word[16];
	struct buf b;

	rds_key_inode(trash_key, NULL, JFS_TRASH_INODE);
	buf_init(&b, 0);
	rds_setting_write(s, false, &b);
	const char *text = buf_cstr(&b);
	const char *argv[] = {RDS_SETTING, "i1", trash_key, text, (const char *)root, (const char *)trash};
	size_t lens[] = {strlen(RDS_SETTING), 2, strlen(trash_key), b.len, directory_record(0777, now, root),
		s->trash_days > 0 ? directory_record(0555, now, trash) : 0};
	int rc = b.err ? errmsg_set(e, b.err, "no memory for the volume setting")
		       : call_word(c, create_lua, 3, 6, argv, lens, word, e);
	buf_fini(&b);
	if (rc)
		return rc;
	if (strcmp(word, "EXISTS") == 0)
		return errmsg_set(e, -EEXIST, "the Redis database at %s holds a volume already", rds_conn_name(c));
	if (strcmp(word, "FOREIGN") == 0)
		return foreign_message(c, e);
	return 0;
}

int rds_volume_update(struct rds_conn *c, const char *old_text, size_t old_len, const struct rds_setting *s, int64_t now,
	struct errmsg *e)
{
	uint8_t trash[JFS_ATTR_MAX];
	char trash_key[RDS_KEY_MAX], word[16];
	struct buf b;

	rds_key_inode(trash_key, NULL, JFS_TRASH_INODE);
	buf_init(&b, 0);
	rds_setting_write(s, false, &b);
	const char *text = buf_cstr(&b);
	const char *argv[] = {RDS_SETTING, trash_key, old_text, text, (const char *)trash};
	size_t lens[] = {strlen(RDS_SETTING), strlen(trash_key), old_len, b.len,
		s->trash_days > 0 ? directory_record(0555, now, trash) : 0};
	int rc = b.err ? errmsg_set(e, b.err, "no memory for the volume setting")
		       : call_word(c, update_lua, 2, 5, argv, lens, word, e);
	buf_fini(&b);
	if (rc == 0 && strcmp(word, "OK") != 0)
		return errmsg_set(e, -EAGAIN, "the setting of volume %s was changed by somebody else meanwhile: try again", s->name);
	return rc;
}

static int load_missing(struct rds_conn *c, struct errmsg *e)
{
	struct redisReply *r = NULL;
	int rc = rds_cmd(c, &r, e, "DBSIZE");

	if (rc == 0 && r->type == REDIS_REPLY_INTEGER && r->integer > 0)
		rc = foreign_message(c, e);
	else if (rc == 0)
		rc = errmsg_set(e, -ENODATA, "the Redis database at %s holds no volume: make one with `jfs format META-URL NAME`",
			rds_conn_name(c));
	rds_reply_free(r);
	return rc;
}

int rds_volume_load(struct rds_conn *c, struct rds_setting *s, char **text, size_t *len, struct errmsg *e)
{
	struct redisReply *r = NULL;

	memset(s, 0, sizeof(*s));
	if (text)
		*text = NULL;
	int rc = rds_cmd(c, &r, e, "GET %s", RDS_SETTING);
	if (rc == -EUCLEAN) {
		rc = errmsg_set(e, -ENOTEMPTY, "the Redis database at %s holds something else under the key `setting`",
			rds_conn_name(c));
	} else if (rc == 0 && r->type == REDIS_REPLY_NIL) {
		rc = load_missing(c, e);
	} else if (rc == 0) {
		rc = rds_setting_parse(r->str, r->len, s, e);
		if (rc)
			errmsg_prefix(e, "Redis at %s", rds_conn_name(c));
	}
	if (rc == 0 && text) {
		*text = malloc(r->len + 1);
		if (*text) {
			memcpy(*text, r->str, r->len + 1);
			*len = r->len;
		} else {
			rds_setting_fini(s);
			rc = errmsg_set(e, -ENOMEM, "no memory for the volume setting");
		}
	}
	rds_reply_free(r);
	return rc;
}
