/* jfs flush: returns when Redis and S3 have everything that the mount had acknowledged when it was called. */
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>

#include "daemon/commands.h"
#include "daemon/control.h"
#include "daemon/options.h"
#include "daemon/verbs.h"

static const struct opt table[] = { { 0 } };

static const struct options_spec spec = {
	.usage = "jfs flush MOUNTPOINT|PATH",
	.summary = "Waits until Redis and S3 have all that was written to the mount before the call.",
	.opts = table,
	.args_min = 1,
	.args_max = 1,
};

int cmd_flush(int argc, char **argv)
{
	struct options_result res;
	struct errmsg e = { "" };
	char point[PATH_MAX], none;
	int r, status = 0;

	if (options_parse(&spec, &none, &res, argc, argv, &e)) {
		status = options_usage_error(&spec, &e);
	} else if (res.help) {
		options_help(&spec);
	} else {
		r = control_find_mount(res.args[0], point, &e);
		if (r == 0)
			r = control_command(point, VERB_FLUSH, &e);
		if (r)
			fprintf(stderr, "jfs flush: %s\n", e.text);
		status = r ? 1 : 0;
	}
	options_free(&spec, &none, &res);
	return status;
}
