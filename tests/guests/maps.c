// Proves that /proc/self/maps shows the program what it shows natively: its own file as text, the
// heap, its stack, its mappings with their protections; and that mem and pagemap-like files agree.
// What else there is lies where Linux maps natively: allocators and sanitizers hold fixed addresses
// in between for theirs.
#include "guest.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>

static const char constant[] = "in read-only data";
static char variable[] = "in writable data";
static char own_path[PATH_MAX];

static const char *category(const char *path)
{
    if (!strcmp(path, own_path))
        return "own file";
    return path[0] == '[' ? path : path[0] ? "other file" : "anonymous";
}

static void find(const char *name, const void *address)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    NEED(maps);
    char line[PATH_MAX + 200];
    bool found = false;
    while (fgets(line, sizeof(line), maps)) {
        uint64_t low, high;
        char prot[8], path[PATH_MAX] = "";
        NEED(sscanf(line, "%lx-%lx %7s %*x %*s %*u %4095[^\n]", &low, &high, prot, path) >= 3);
        if ((uint64_t)address >= low && (uint64_t)address < high) {
            say(name, "%s %s", prot, category(path));
            found = true;
        }
    }
    if (!found)
        say(name, "not in maps");
    fclose(maps);
}

// Counts mappings between the highest that a position independent executable and its heap take, and
// the lowest that Linux begins with below the stack: with this layout ThreadSanitizer refuses any.
static int between(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    NEED(maps);
    char line[PATH_MAX + 200];
    int count = 0;
    while (fgets(line, sizeof(line), maps)) {
        uint64_t low;
        NEED(sscanf(line, "%lx-", &low) == 1);
        count += low >= 0x568000000000 && low < 0x7e8000000000;
    }
    fclose(maps);
    return count;
}

int main(void)
{
    say("far from all others", "%d", between());
    ssize_t length = readlink("/proc/self/exe", own_path, sizeof(own_path) - 1);
    NEED(length > 0);
    int local = 0;
    find("text", (void *)main);
    find("constants", constant);
    find("variables", variable);
    find("stack", &local);
    char *heap = sbrk(100000);
    find("heap", heap + 50000);
    char *area = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(area != MAP_FAILED);
    NEED(mprotect(area, 2 * PAGE, PROT_NONE) == 0);
    NEED(mprotect(area + 4 * PAGE, PAGE, PROT_READ | PROT_EXEC) == 0);
    find("made PROT_NONE", area);
    find("left alone", area + 2 * PAGE);
    find("made executable", area + 4 * PAGE);
    NEED(munmap(area + 6 * PAGE, PAGE) == 0);
    find("unmapped", area + 6 * PAGE);
    find("null", NULL);

    int fd = open("/proc/self/mem", O_RDWR);
    NEED(fd >= 0);
    char text[sizeof(constant)];
    say("pread of mem", "%s",
        pread(fd, text, sizeof(text), (off_t)(uintptr_t)constant) > 0 ? text : "failed");
    say("pwrite to mem", "%s", outcome(pwrite(fd, "ON", 2, (off_t)(uintptr_t)variable)));
    say("variable", "%s", variable);
    // Through mem even read-only text can be written, as debuggers do.
    say("forced write", "%s", outcome(pwrite(fd, "IN", 2, (off_t)(uintptr_t)constant)));
    say("constant", "%c%c", ((volatile const char *)constant)[0],
        ((volatile const char *)constant)[1]);
    return 0;
}
