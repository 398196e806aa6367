/* The command line of every jfs command: one table of options gives parsing, help text, and the scrubbing of secrets.
 *
 * Accepted: --name=value, --name value, --flag, --flag=no, -x value, -xvalue, `--` ends the options; options and arguments
 * may be mixed. A name may be written with '_' for '-'. `-o a=b,c` (mount's way) sets the options of those names. Values are
 * copied, and what is secret is overwritten in argv at once, so that it does not stay visible in ps: values of secret
 * options, and passwords in arguments that look like a META-URL. */
#ifndef JFS_DAEMON_OPTIONS_H
#define JFS_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/errmsg.h"

enum opt_type {
	OPT_FLAG,   /* bool; takes no value unless written --flag=value */
	OPT_STRING, /* char *, heap, initially NULL */
	OPT_U64,    /* uint64_t */
	OPT_SIZE,   /* uint64_t bytes; a bare number counts in `unit` bytes */
	OPT_TIME,   /* uint64_t nanoseconds */
	OPT_DOUBLE, /* double >= 0 */
	OPT_O,	    /* the -o list; no storage */
	OPT_IGNORED, /* known to stock, without meaning here; takes a value */
	OPT_IGNORED_FLAG,
};

struct opt {
	const char *name;  /* without the dashes; NULL ends the table */
	char letter;	   /* short form, 0: none */
	enum opt_type type;
	size_t at;	   /* offset in the struct that options_parse fills */
	uint64_t unit;	   /* OPT_SIZE */
	bool secret;
	const char *value; /* its name in the help: "SIZE" */
	const char *help;  /* NULL: not listed */
};

struct options_spec {
	const char *usage;   /* "jfs format [OPTIONS] META-URL NAME" */
	const char *summary; /* one or more lines */
	const struct opt *opts;
	unsigned args_min, args_max;
	/* What -o names and the table does not have; 0 or -EINVAL with a message. NULL: such is an error. value may be NULL. */
	int (*o_other)(void *base, const char *key, const char *value, struct errmsg *e);
};

#define OPTIONS_MAX	128
#define OPTIONS_ARGS_MAX 64

struct options_result {
	bool given[OPTIONS_MAX]; /* by place in the table */
	char *args[OPTIONS_ARGS_MAX]; /* heap */
	unsigned arg_count;
	bool help;
};

/* Fills *base and *res. `argv[0]` is skipped. -EINVAL with a message that names the option; then, and always, call
 * options_free. When --help is met, res->help is set and nothing else is demanded. */
int options_parse(const struct options_spec *spec, void *base, struct options_result *res, int argc, char **argv,
	struct errmsg *e);
/* Was the option of this name given? The name must be in the table. */
bool options_given(const struct options_spec *spec, const struct options_result *res, const char *name);
/* The first option that was given with another value in `asked` than `other` has, or NULL. */
const char *options_changed(const struct options_spec *spec, const void *asked, const struct options_result *res, const void *other);
void options_help(const struct options_spec *spec);
/* Frees the arguments and all OPT_STRING values, wiping secret ones. */
void options_free(const struct options_spec *spec, void *base, struct options_result *res);

/* Prints "jfs COMMAND: text" and returns the exit status for an error: 2 (usage). */
int options_usage_error(const struct options_spec *spec, const struct errmsg *e);

#endif
