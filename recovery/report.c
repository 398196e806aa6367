#include "recovery/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define SHOWN 100

void report_free(struct report *r)
{
	for (size_t i = 0; i < r->unsafe.n; i++)
		free(r->unsafe.v[i].path);
	for (size_t i = 0; i < r->broken.n; i++) {
		free(r->broken.v[i].path);
		free(r->broken.v[i].text);
	}
	for (size_t i = 0; i < r->changes.n; i++)
		free(r->changes.v[i].path);
	vec_free(&r->changes);
	vec_free(&r->unsafe);
	vec_free(&r->broken);
}

int report_broken(struct report *r, const char *path, const char *fmt, ...)
{
	struct finding *f = vec_add(&r->broken);
	va_list ap;
	int n;

	if (!f)
		return -ENOMEM;
	va_start(ap, fmt);
	n = vasprintf(&f->text, fmt, ap);
	va_end(ap);
	if (n < 0)
		f->text = NULL;
	f->path = path ? strdup(path) : NULL;
	return n < 0 || (path && !f->path) ? -ENOMEM : 0;
}

int report_unsafe(struct report *r, const char *path, uint64_t ino, const char *state, uint64_t bytes)
{
	struct unsafe *u = vec_add(&r->unsafe);

	if (!u)
		return -ENOMEM;
	*u = (struct unsafe){.path = strdup(path), .ino = ino, .bytes = bytes, .state = state};
	return u->path ? 0 : -ENOMEM;
}

int report_change(struct report *r, const char *path, const char *what)
{
	struct change *c = vec_add(&r->changes);

	if (!c)
		return -ENOMEM;
	*c = (struct change){.path = strdup(path), .what = what};
	return c->path ? 0 : -ENOMEM;
}

bool report_differs(const struct report *r)
{
	for (size_t i = 0; i < r->changes.n; i++)
		if (strcmp(r->changes.v[i].what, "kept") != 0)
			return true;
	return false;
}

enum recover_exit report_exit(const struct report *r)
{
	if (r->broken.n)
		return RECOVER_BROKEN;
	if (r->rebased)
		return r->applied_now ? RECOVER_REPAIRED : report_differs(r) ? RECOVER_BACKLOG : RECOVER_CLEAN;
	if ((r->backlog_ops || r->backlog_bytes) && !r->exported_to && !r->discarded)
		return RECOVER_BACKLOG;
	return r->applied_now ? RECOVER_REPAIRED : RECOVER_CLEAN;
}

static const char *verdict(const struct report *r)
{
	switch (report_exit(r)) {
	case RECOVER_CLEAN:
		return "clean";
	case RECOVER_REPAIRED:
		return "repaired";
	case RECOVER_BACKLOG:
		return "backlog";
	default:
		return "broken";
	}
}

static void print_remote(const struct report *r)
{
	if (r->redis_asked && r->redis_epoch)
		printf("redis      position %" PRIu64 " (%s), lease epoch %" PRIu64 " %s by %s, last seen %s\n", r->redis_seq,
			r->position, r->redis_epoch, r->released ? "released" : "held", r->holder, r->holder_seen);
	else if (r->redis_asked)
		printf("redis      no lease and no position (%s)\n", r->position);
	else
		printf("redis      not asked: give META-URL to compare positions and check objects\n");
	if (r->objects_asked)
		printf("objects    %" PRIu64 " checked, %" PRIu64 " missing, %" PRIu64 " of the wrong size\n", r->objects,
			r->objects_missing, r->objects_short);
}

static void print_changes(const struct report *r, bool all)
{
	const char *label = r->applied_now ? "rebased" : "to rebase";
	size_t shown = all || r->changes.n <= SHOWN ? r->changes.n : SHOWN;

	for (size_t i = 0; i < shown; i++)
		printf("%-10s %-8s %s\n", label, r->changes.v[i].what, r->changes.v[i].path);
	if (shown < r->changes.n)
		printf("%-10s ... and %zu more: --all lists them\n", label, r->changes.n - shown);
}

static void print_unsafe(const struct report *r, bool all)
{
	size_t shown = all || r->unsafe.n <= SHOWN ? r->unsafe.n : SHOWN;

	for (size_t i = 0; i < shown; i++) {
		const struct unsafe *u = &r->unsafe.v[i];

		printf("only here  %-8s %s", u->state, u->path);
		if (u->bytes)
			printf(" (%" PRIu64 " bytes)", u->bytes);
		putchar('\n');
	}
	if (shown < r->unsafe.n)
		printf("only here  ... and %zu more: --all lists them\n", r->unsafe.n - shown);
}

static void print_summary(const struct report *r)
{
	if (!r->rebased)
		printf("summary    %s: %" PRIu64 " operations and %" PRIu64 " bytes are only here\n", verdict(r), r->backlog_ops,
			r->backlog_bytes);
	else
		printf("summary    %s: the volume %s in %zu names, %" PRIu64 " bytes were copied\n", verdict(r),
			r->applied_now ? "differed" : "differs", r->changes.n, r->rebased_bytes);
	if (r->advice[0])
		printf("to do      %s\n", r->advice);
}

void report_print(const struct report *r, bool all)
{

	printf("journal    %s\n", r->cache);
	printf("volume     %s\n", r->uuid);
	printf("records    durable %" PRIu64 ", in the hot or sync log %" PRIu64 " more, applied %" PRIu64 ", log from %" PRIu64 " on\n",
		r->durable, r->hot_records, r->applied, r->trimmed + 1);
	printf("last end   %s%s\n", r->clean ? "clean" : r->power_cut ? "power cut (or the hot directory is gone)" : "killed",
		r->moved ? "; by another machine or in another directory: perhaps a copy" : "");
	printf("staging    %" PRIu64 " bytes verified, %" PRIu64 " of them damaged\n", r->staged_bytes, r->staged_bad);
	if (!r->rebased) {
		print_remote(r);
		print_unsafe(r, all);
	}
	print_changes(r, all);
	for (size_t i = 0; i < r->broken.n; i++)
		printf("broken     %s%s%s\n", r->broken.v[i].path ? r->broken.v[i].path : "", r->broken.v[i].path ? ": " : "",
			r->broken.v[i].text);
	if (r->discarded)
		printf("discarded  %" PRIu64 " files\n", r->discarded);
	if (r->exported_to)
		printf("exported   %" PRIu64 " files with %" PRIu64 " bytes and %" PRIu64 " others to %s, %" PRIu64 " files not whole, %" PRIu64
			" left out (only their attributes are here)\n", r->exported_files, r->exported_bytes, r->exported_others, r->exported_to,
			r->exported_partial, r->exported_skipped);
	print_summary(r);
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *unsafe_json(const struct report *r)
{
	json_t *a = json_array();

	for (size_t i = 0; i < r->unsafe.n; i++) {
		const struct unsafe *u = &r->unsafe.v[i];
		json_t *o = json_pack("{s:s, s:s, s:I}", "path", u->path, "state", u->state, "bytes", (json_int_t)u->bytes);

		if (u->ino)
			json_object_set_new(o, "inode", number(u->ino));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *broken_json(const struct report *r)
{
	json_t *a = json_array();

	for (size_t i = 0; i < r->broken.n; i++)
		json_array_append_new(a, json_pack("{s:s*, s:s}", "path", r->broken.v[i].path, "text", r->broken.v[i].text));
	return a;
}

static json_t *journal_json(const struct report *r)
{
	json_t *o = json_pack("{s:s, s:b, s:b, s:b}", "id", r->id, "clean", r->clean, "power_cut", r->power_cut, "moved", r->moved);
	const struct {
		const char *name;
		uint64_t n;
	} figures[] = {{"durable", r->durable}, {"committed", r->committed}, {"applied", r->applied}, {"trimmed", r->trimmed},
		{"log_records", r->log_records}, {"hot_records", r->hot_records}, {"hot_bad", r->hot_bad},
		{"set_aside", r->setaside}, {"keys", r->keys}};

	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		json_object_set_new(o, figures[i].name, number(figures[i].n));
	return o;
}

static json_t *redis_json(const struct report *r)
{
	if (!r->redis_asked)
		return json_null();
	return json_pack("{s:s, s:I, s:I, s:b, s:s, s:s}", "position", r->position, "sequence", (json_int_t)r->redis_seq, "epoch",
		(json_int_t)r->redis_epoch, "released", r->released, "holder", r->holder, "seen", r->holder_seen);
}

static json_t *rebased_json(const struct report *r)
{
	json_t *o, *a;

	if (!r->rebased)
		return json_null();
	a = json_array();
	for (size_t i = 0; i < r->changes.n; i++)
		json_array_append_new(a, json_pack("{s:s, s:s}", "path", r->changes.v[i].path, "what", r->changes.v[i].what));
	o = json_pack("{s:I, s:o}", "bytes", (json_int_t)r->rebased_bytes, "changes", a);
	json_object_set_new(o, "journal", r->left_at ? json_string(r->left_at) : json_null());
	return o;
}

int report_json(const struct report *r)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:i}", "command", r->command, "cache", r->cache, "volume", r->uuid, "result",
		verdict(r), "exit", (int)report_exit(r));
	int rc = 0;

	json_object_set_new(o, "journal", journal_json(r));
	json_object_set_new(o, "staging", json_pack("{s:I, s:I}", "bytes", (json_int_t)r->staged_bytes, "damaged",
		(json_int_t)r->staged_bad));
	json_object_set_new(o, "backlog", json_pack("{s:I, s:I}", "operations", (json_int_t)r->backlog_ops, "bytes",
		(json_int_t)r->backlog_bytes));
	json_object_set_new(o, "redis", redis_json(r));
	json_object_set_new(o, "objects", !r->objects_asked ? json_null() : json_pack("{s:I, s:I, s:I}", "checked",
		(json_int_t)r->objects, "missing", (json_int_t)r->objects_missing, "wrong_size", (json_int_t)r->objects_short));
	json_object_set_new(o, "discarded", number(r->discarded));
	json_object_set_new(o, "exported", !r->exported_to ? json_null() : json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "directory",
		r->exported_to, "files", (json_int_t)r->exported_files, "others", (json_int_t)r->exported_others, "bytes",
		(json_int_t)r->exported_bytes, "partial", (json_int_t)r->exported_partial, "skipped", (json_int_t)r->exported_skipped));
	json_object_set_new(o, "rebased", rebased_json(r));
	json_object_set_new(o, "only_here", unsafe_json(r));
	json_object_set_new(o, "broken", broken_json(r));
	json_object_set_new(o, "advice", json_string(r->advice));
	if (!o || json_dumpf(o, stdout, JSON_INDENT(1)) || putchar('\n') == EOF)
		rc = -EIO;
	json_decref(o);
	return rc;
}
