/* SPDX-License-Identifier: Apache-2.0 */
/* shmctl-tool.c - the command line's way to its verb. */
#include <errno.h>
#include <string.h>

#include "tool.h"

int main(int argc, char **argv)
{
	struct call call;
	int code = call_parse(&call, argc, argv);

	if (code)
		return code;
	if (call.version)
		printf("shmctl-tool (%s) %s\n", PACKAGE_NAME, PACKAGE_VERSION);
	else if (call.help && call.verb)
		verbs_help_one(stdout, call.verb);
	else if (call.help)
		verbs_usage(stdout);
	else
		code = call.verb->run(&call);
	if (fflush(stdout) && code == TOOL_OK) {
		tool_error("cannot write: %s", strerror(errno));
		code = TOOL_FAILED;
	}
	return code;
}
