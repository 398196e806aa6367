/* jfs-recover: what an operator runs after a crash, without a mount. A dry run unless --apply is given. */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/options.h"
#include "recovery/caches.h"
#include "recovery/recover.h"
#include "util/fault.h"
#include "util/log.h"

#define AT(member) offsetof(struct recover_options, member)

static const struct opt table[] = {
	{"cache-dir", 0, OPT_STRING, AT(cache_dir), 0, false, "DIR", "the mount's --cache-dir, or the journal's own directory in it"},
	{"uuid", 0, OPT_STRING, AT(uuid), 0, false, "UUID", "of the volume, when DIR holds several"},
	{"hot-dir", 0, OPT_STRING, AT(hot_dir), 0, false, "DIR", "the mount's --hot-dir (default: as the mount had it)"},
	{"apply", 0, OPT_FLAG, AT(apply), 0, false, NULL, "really do it; without it nothing is changed"},
	{"json", 0, OPT_FLAG, AT(json), 0, false, NULL, "print JSON"},
	{"all", 0, OPT_FLAG, AT(all), 0, false, NULL, "list every path, not only the first hundred"},
	{"no-objects", 0, OPT_FLAG, AT(no_objects), 0, false, NULL, "do not ask the object store"},
	{"delete", 0, OPT_FLAG, AT(remove_others), 0, false, NULL, "rebase: remove what the volume has and the journal has not"},
	{"trust-objects", 0, OPT_FLAG, AT(trust_objects), 0, false, NULL, "rebase: no other client has written since Redis was restored"},
	{"takeover", 0, OPT_FLAG, AT(takeover), 0, false, NULL, "replay, rebase: take the volume from the host that holds it"},
	{"timeout", 0, OPT_TIME, AT(timeout_ns), 0, false, "TIME", "replay: give up after this time (default: wait for Redis and S3)"},
	{"debug", 0, OPT_FLAG, AT(debug), 0, false, NULL, "log more, to stderr"},
	{"allow-any-fs", 0, OPT_FLAG, AT(allow_any_fs), 0, false, NULL, NULL},
	{0},
};

static const struct options_spec spec = {
	.usage = "jfs-recover COMMAND [--apply] --cache-dir=DIR [META-URL]\n       jfs-recover export [--apply] --cache-dir=DIR TARGET"
		 "\n       jfs-recover discard [--apply] --cache-dir=DIR PATH...",
	.summary = "Looks after the journal of a volume that is not mounted.\n\n"
		   "commands:\n"
		   "  check      verify the journal and list by path what is only here\n"
		   "  replay     bring the volume up to date without mounting (with --apply)\n"
		   "  export     write the files that are only here below TARGET, without Redis and the object store (with --apply)\n"
		   "  rebase     after Redis was restored from a backup or reloaded: copy into the volume what only the\n"
		   "             journal knows, as if it were done again (with --apply)\n"
		   "  discard    give up files that cannot be saved, so that all others can be replayed (with --apply)\n\n"
		   "exit status: 0 clean, 1 repaired, 2 work is only here, 4 something is broken, 8 cannot run, 16 usage",
	.opts = table,
	.args_min = 0,
	.args_max = OPTIONS_ARGS_MAX,
};

static const struct command {
	const char *name;
	int (*fn)(const struct recover_options *o, const char *cache);
	enum { ARG_URL, ARG_URL_TO_APPLY, ARG_URL_ALWAYS, ARG_DIR_TO_APPLY, ARG_PATHS } arg;
} commands[] = {
	{"check", recover_check, ARG_URL},
	{"replay", recover_replay, ARG_URL_TO_APPLY},
	{"export", recover_export, ARG_DIR_TO_APPLY},
	{"rebase", recover_rebase, ARG_URL_ALWAYS},
	{"discard", recover_discard, ARG_PATHS},
	{NULL, NULL, ARG_URL},
};

static int usage(const char *text)
{
	fprintf(stderr, "jfs-recover: %s (see jfs-recover --help)\n", text);
	return RECOVER_USAGE;
}

static int find_command(const char *name, const struct command **out)
{
	char text[160];

	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, name) == 0) {
			*out = c;
			return 0;
		}
	snprintf(text, sizeof(text), "unknown command \"%.100s\"", name);
	return usage(text);
}

static int run(const struct command *c, const struct recover_options *o)
{
	struct errmsg e = {""};
	char *cache = NULL;
	int rc, status;

	if (!o->cache_dir)
		return usage("--cache-dir is missing");
	if ((c->arg == ARG_URL_ALWAYS || (c->arg == ARG_URL_TO_APPLY && o->apply)) && !o->meta_url)
		return usage("META-URL is missing");
	if (c->arg == ARG_DIR_TO_APPLY && o->apply && !o->dir)
		return usage("the directory to export to is missing");
	if (c->arg == ARG_PATHS && !o->n_paths)
		return usage("the paths of what is to be discarded are missing");
	rc = cache_find(o->cache_dir, o->uuid, c->arg == ARG_URL_ALWAYS, &cache, &e);
	if (rc == -EINVAL)
		return usage(e.text);
	if (rc)
		return recover_cannot(e.text);
	status = c->fn(o, cache);
	free(cache);
	return status;
}

int main(int argc, char **argv)
{
	struct recover_options o = {0};
	const struct command *c = NULL;
	struct options_result res;
	struct errmsg e = {""};
	int status;

	signal(SIGPIPE, SIG_IGN);
	fault_init();
	log_set_level(LOG_LVL_ERROR);
	if (argc < 2)
		return usage("no command");
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("jfs-recover %s\n", JFS_VERSION);
		return 0;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		options_help(&spec);
		return 0;
	}
	status = find_command(argv[1], &c);
	if (status)
		return status;
	if (options_parse(&spec, &o, &res, argc - 1, argv + 1, &e)) {
		status = usage(e.text);
	} else if (res.help) {
		options_help(&spec);
	} else if (c->arg != ARG_PATHS && res.arg_count > 1) {
		status = usage("too many arguments");
	} else {
		if (c->arg == ARG_PATHS) {
			o.paths = res.args;
			o.n_paths = (size_t)res.arg_count;
		} else {
			*(c->arg == ARG_DIR_TO_APPLY ? &o.dir : &o.meta_url) = res.arg_count ? res.args[0] : NULL;
		}
		if (o.debug)
			log_set_level(LOG_LVL_DEBUG);
		status = run(c, &o);
	}
	options_free(&spec, &o, &res);
	return status;
}
