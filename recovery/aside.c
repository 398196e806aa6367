#include "recovery/aside.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "journal/record.h"
#include "recovery/caches.h"

void aside_init(struct aside *a)
{
	memset(a, 0, sizeof(*a));
	backlog_init(&a->changes);
	buf_init(&a->text, (size_t)1 << 30);
}

void aside_fini(struct aside *a)
{
	for (size_t i = 0; i < a->files.n; i++)
		free(a->files.v[i]);
	vec_free(&a->files);
	vec_free(&a->damaged);
	vec_free(&a->names);
	buf_fini(&a->text);
	backlog_fini(&a->changes);
}

static int take_file(void *arg, const char *name)
{
	struct aside *a = arg;
	char **at = vec_add(&a->files);

	if (at)
		*at = strdup(name);
	if (at && !*at)
		a->files.n--;
	return at && *at ? 0 : -ENOMEM;
}

static int cmp_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The whole file, to be freed. 0, -errno; -EUCLEAN: no record is that long. */
static int read_file(const char *cache, const char *name, uint8_t **out, size_t *len)
{
	char path[PATH_MAX];
	size_t room = REC_MAX + 1;
	ssize_t n = 1;
	int fd, err = 0;

	*out = NULL;
	*len = 0;
	if (snprintf(path, sizeof(path), "%s/setaside/%s", cache, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*out = malloc(room);
	err = *out ? 0 : -ENOMEM;
	while (!err && n > 0 && *len < room) {
		n = read(fd, *out + *len, room - *len);
		if (n < 0 && errno != EINTR)
			err = -errno;
		*len += n > 0 ? (size_t)n : 0;
		if (n < 0)
			n = 1;
	}
	close(fd);
	return !err && *len == room ? -EUCLEAN : err;
}

/* Entries that the record makes: whoever they lead to has no other name yet, perhaps. */
static int take_names(struct aside *a, const uint8_t *rec, size_t len)
{
	struct rec_header h;
	struct rec_reader it;
	struct rec_item i;
	int rc = rec_open(rec, len, &h, &it);

	while (!rc && (rc = rec_next(&it, &i)) == 1) {
		struct aside_name n = {.at = a->text.len}, *at;
		const uint8_t *name;
		uint64_t hash;
		uint8_t type;
		size_t size;

		rc = 0;
		if (i.kind != IT_PUT || i.key[0] != T_DENTRY || key_parse_dentry(i.key, i.klen, &n.parent, &hash, &name, &size) ||
			jfs_dentry_decode(i.val, i.vlen, &type, &n.ino))
			continue;
		n.len = (uint16_t)size;
		n.dir = type == JFS_DIR;
		buf_put(&a->text, name, size);
		at = vec_add(&a->names);
		if (!at || a->text.err)
			return -ENOMEM;
		*at = n;
	}
	return rc;
}

static int take_record(struct aside *a, const char *cache, char *name)
{
	uint8_t *rec;
	size_t len;
	int rc = read_file(cache, name, &rec, &len);

	if (!rc)
		rc = take_names(a, rec, len);
	if (!rc)
		rc = backlog_feed(&a->changes, strtoull(name, NULL, 10), rec, len);
	if (rc == -EUCLEAN || rc == -ENOTSUP || rc == -EIO) {
		char **at = vec_add(&a->damaged);

		rc = at ? 0 : -ENOMEM;
		if (at)
			*at = name;
	}
	free(rec);
	return rc;
}

int aside_load(struct aside *a, const char *cache, struct paths *p)
{
	int rc = cache_setaside(cache, take_file, a);

	if (rc < 0)
		return rc;
	vec_sort(&a->files, cmp_text);
	rc = 0;
	for (size_t i = 0; i < a->files.n && !rc; i++)
		rc = take_record(a, cache, a->files.v[i]);
	backlog_done(&a->changes);
	for (size_t i = 0; i < a->changes.inodes.n && !rc; i++)
		rc = paths_want(p, a->changes.inodes.v[i].ino);
	return rc;
}

int aside_feed(const struct aside *a, struct paths *p)
{
	int rc = 0;

	for (size_t i = 0; i < a->names.n && !rc; i++) {
		const struct aside_name *n = &a->names.v[i];

		rc = paths_feed(p, n->parent, a->text.data + n->at, n->len, n->dir, n->ino);
	}
	return rc;
}

static int tell_path(struct report *r, struct buf *path, const char *what)
{
	int rc = path->err ? -ENOMEM :
			     report_broken(r, buf_cstr(path), "acknowledged, but set aside by recovery: %s", what);

	buf_reset(path);
	return rc;
}

int aside_tell(const struct aside *a, const struct paths *p, struct report *r)
{
	const struct backlog *c = &a->changes;
	struct buf path;
	int rc = 0;

	r->setaside = a->files.n;
	if (a->files.n)
		rc = report_broken(r, NULL, "recovery could not take %zu acknowledged records: setaside/%s and what follows it", a->files.n,
			a->files.v[0]);
	for (size_t i = 0; i < a->damaged.n && !rc; i++)
		rc = report_broken(r, NULL, "setaside/%s is damaged or of a newer version: what it changed cannot be told", a->damaged.v[i]);
	buf_init(&path, 0);
	for (size_t i = 0; i < c->inodes.n && !rc; i++) {
		paths_of(p, c->inodes.v[i].ino, &path);
		rc = tell_path(r, &path, c->inodes.v[i].born ? "new" : "changed");
	}
	for (size_t i = 0; i < c->removed.n && !rc; i++) {
		paths_of_entry(p, c->removed.v[i].parent, c->names.data + c->removed.v[i].at, c->removed.v[i].len, &path);
		rc = tell_path(r, &path, "removed");
	}
	buf_fini(&path);
	return rc;
}
