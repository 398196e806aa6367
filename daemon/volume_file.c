#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/volume_int.h"
#include "journal/cachedir.h"

#define FILE_NAME "volume.json"

/* A full disk must not keep a mount from recovering for the sake of what stands there already. */
static bool stands_already(int dirfd, const char *text, size_t n)
{
	int fd = openat(dirfd, FILE_NAME, O_RDONLY | O_CLOEXEC);
	char *have = fd < 0 ? NULL : malloc(n + 1);
	bool same = have && read(fd, have, n + 1) == (ssize_t)n && memcmp(have, text, n) == 0;

	if (have)
		explicit_bzero(have, n + 1);
	free(have);
	if (fd >= 0)
		close(fd);
	return same;
}

int volume_file_write(struct volume *v, struct errmsg *e)
{
	char *text = NULL, url[512];
	int rc = 0;

	rds_url_show(&v->url, url, sizeof(url));
	json_t *o = json_pack("{s:s, s:s%}", "url", url, "setting", v->setting_text, v->setting_len);
	if (o)
		text = json_dumps(o, JSON_INDENT(1));
	json_decref(o);
	if (!text)
		return errmsg_set(e, -ENOMEM, "out of memory");
	size_t n = strlen(text);
	int fd = open(v->cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
	} else {
		rc = stands_already(fd, text, n) ? 0 : file_replace(fd, FILE_NAME, text, n);
		close(fd);
	}
	explicit_bzero(text, n);
	free(text);
	return rc ? errmsg_set(e, rc, "cannot write %s/" FILE_NAME ": %s", v->cache_dir, strerror(-rc)) : 0;
}

/* Takes the setting from one file if its address is ours: 1 taken, 0 another volume, -errno. */
static int take(struct volume *v, const char *path, const char *url, struct errmsg *e)
{
	json_error_t err;
	json_t *o = json_load_file(path, 0, &err);
	const char *file_url = json_string_value(json_object_get(o, "url"));
	json_t *setting = json_object_get(o, "setting");
	int rc = 0;

	if (!o)
		rc = access(path, F_OK) ? 0 : errmsg_set(e, -EUCLEAN, "%s is damaged: %s", path, err.text);
	else if (!file_url || !json_is_string(setting))
		rc = errmsg_set(e, -EUCLEAN, "%s is damaged: url or setting missing", path);
	else if (strcmp(file_url, url) == 0) {
		v->setting_len = json_string_length(setting);
		v->setting_text = strndup(json_string_value(setting), v->setting_len);
		rc = v->setting_text ? rds_setting_parse(v->setting_text, v->setting_len, &v->setting, e)
				     : errmsg_set(e, -ENOMEM, "out of memory");
		if (!rc)
			rc = 1;
	}
	json_decref(o);
	return rc;
}

int volume_file_find(struct volume *v, struct errmsg *e)
{
	DIR *d = opendir(v->cfg.cache_root);
	struct dirent *de;
	char url[512];
	int rc = 0;

	rds_url_show(&v->url, url, sizeof(url));
	while (d && !rc && (de = readdir(d))) {
		char path[1400];

		if (de->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s/" FILE_NAME, v->cfg.cache_root, de->d_name);
		rc = take(v, path, url, e);
	}
	if (d)
		closedir(d);
	if (rc == 0)
		return errmsg_set(e, -ENOENT, "--offline: no journal of %s below %s; mount it once with Redis reachable", url,
			v->cfg.cache_root);
	return rc < 0 ? rc : 0;
}
