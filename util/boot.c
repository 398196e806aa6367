#include "util/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

int boot_id_read(char id[BOOT_ID_LEN + 1], struct errmsg *e)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, BOOT_ID_LEN);

	if (fd >= 0)
		close(fd);
	if (n != BOOT_ID_LEN || memchr(id, '/', BOOT_ID_LEN) || memchr(id, '\n', BOOT_ID_LEN))
		return errmsg_set(e, -EIO, "/proc/sys/kernel/random/boot_id cannot be read");
	id[BOOT_ID_LEN] = '\0';
	return 0;
}

uint64_t boot_id_hash(void)
{
	char id[BOOT_ID_LEN + 1];
	struct errmsg e;
	uint64_t h;

	if (boot_id_read(id, &e))
		return 0;
	h = XXH3_64bits(id, BOOT_ID_LEN);
	return h ? h : 1;
}
