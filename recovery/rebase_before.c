#include "recovery/rebase_before.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/cache_dir.h"
#include "journal/cachedir.h"
#include "util/clock.h"

static int64_t time_ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct timespec time_of(int64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

int rebase_before_write(const char *journal, const struct rebase_before *b, struct errmsg *e)
{
	json_t *runs = json_array();
	json_t *o = json_pack("{s:b, s:I, s:s, s:o}", "sure", b->sure, "next_slice", (json_int_t)b->next_slice, "lease", b->lease, "runs", runs);
	int fd = open(journal, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = fd < 0 ? -errno : 0;
	char *text;

	for (size_t i = 0; o && i < b->runs.n; i++)
		if (json_array_append_new(runs, json_pack("[I, I]", (json_int_t)time_ns(b->runs.v[i].from), (json_int_t)time_ns(b->runs.v[i].to))))
			rc = -ENOMEM;
	text = o ? json_dumps(o, 0) : NULL;
	if (!rc && !text)
		rc = -ENOMEM;
	if (!rc)
		rc = file_replace(fd, REBASE_BEFORE, text, strlen(text));
	if (fd >= 0)
		close(fd);
	free(text);
	json_decref(o);
	return rc ? errmsg_set(e, rc, "%s/" REBASE_BEFORE " cannot be written: %s", journal, strerror(-rc)) : 0;
}

static int runs_read(struct rebase_before *b, json_t *runs, const char *path)
{
	struct stat st;
	json_t *run;
	size_t i;

	json_array_foreach(runs, i, run) {
		struct rebase_run *r = vec_add(&b->runs);
		json_int_t from, to;

		if (!r || json_unpack(run, "[I, I]", &from, &to))
			return r ? -EUCLEAN : -ENOMEM;
		*r = (struct rebase_run){.from = time_of(from), .to = time_of(to)};
	}
	if (b->runs.n == 0)
		return 0;
	if (stat(path, &st))
		return -errno;
	/* What was under way when it was last noted may have come through a moment later. */
	b->runs.v[b->runs.n - 1].to = (struct timespec){.tv_sec = st.st_mtim.tv_sec + 1, .tv_nsec = st.st_mtim.tv_nsec};
	return 0;
}

int rebase_before_read(const char *journal, struct rebase_before *b, struct errmsg *e)
{
	char path[PATH_MAX + 16];
	json_int_t slice = 0;
	json_t *o, *runs = NULL;
	const char *lease;
	int sure = 0, rc = 0;

	snprintf(path, sizeof(path), "%s/" REBASE_BEFORE, journal);
	o = json_load_file(path, 0, NULL);
	*b = (struct rebase_before){0};
	if (!o || json_unpack(o, "{s:b, s:I, s:s, s:o}", "sure", &sure, "next_slice", &slice, "lease", &lease, "runs", &runs) ||
		snprintf(b->lease, sizeof(b->lease), "%s", lease) >= (int)sizeof(b->lease))
		rc = -EUCLEAN;
	if (!rc)
		rc = runs_read(b, runs, path);
	if (rc)
		errmsg_set(e, rc, "%s is damaged or not there: rename %s back to what it was before \"" CACHE_REBASE_SUFFIX
				  "\", away with what is there now, and begin again", path, journal);
	b->sure = sure;
	b->next_slice = (uint64_t)slice;
	json_decref(o);
	return rc;
}

int rebase_before_look(struct rebase_before *b, struct remote *rm, const char *id, struct errmsg *e)
{
	const char *journal;
	bool lease = remote_lease(rm, &journal), alone = false;
	int rc = remote_next_slice(rm, &b->next_slice, e);

	*b = (struct rebase_before){.next_slice = b->next_slice};
	if (!rc)
		rc = remote_alone(rm, &alone, e);
	b->sure = alone && strcmp(journal, id) == 0;
	snprintf(b->lease, sizeof(b->lease), "%s", lease ? journal : "");
	return rc;
}

int rebase_before_begin(struct rebase_before *b, const char *journal, int *beat, struct errmsg *e)
{
	struct rebase_run *run = vec_add(&b->runs);
	char path[PATH_MAX + 16];
	int rc;

	if (!run)
		return errmsg_set(e, -ENOMEM, "out of memory");
	run->from = time_of((int64_t)clock_wall_ns());
	rc = rebase_before_write(journal, b, e);
	if (rc)
		return rc;
	run->to = time_of(INT64_MAX);
	snprintf(path, sizeof(path), "%s/" REBASE_BEFORE, journal);
	*beat = open(path, O_RDONLY | O_CLOEXEC);
	return *beat < 0 ? errmsg_set(e, -errno, "%s: %s", path, strerror(errno)) : 0;
}

void rebase_before_free(struct rebase_before *b)
{
	vec_free(&b->runs);
}
