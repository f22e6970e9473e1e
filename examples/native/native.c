// A program that has a machine to itself: Conway's game of life by threads on all virtual CPUs,
// with a checkpoint after every tenth generation that copies only the pages that the processor says
// have been written.
#include <aerokernel.h>
#include <aerokernel/native.h>
#include <string.h>

enum { SIDE = 512, CELLS = SIDE * SIDE, PAGES = CELLS / AK_PAGE_SIZE };
enum { THREADS = 4, ROWS = SIDE / THREADS, GENERATIONS = 200, INTERVAL = 10 };
#define WATCHDOG_NS 60000000000ull

static const char *const gun[] = {
    // Gosper's glider gun
    "........................#...........", "......................#.#...........",
    "............##......##............##", "...........#...#....##............##",
    "##........#.....#...##..............", "##........#...#.##....#.#...........",
    "..........#.....#.......#...........", "...........#...#....................",
    "............##......................",
};

static char *now, *next, *saved; // the field: whole pages, so that their entries tell of it alone
static struct ak_barrier step;
static struct ak_event pause, resume;

static int neighbours(int row, int column)
{
    int count = 0;
    for (int r = row + SIDE - 1; r <= row + SIDE + 1; r++)
        for (int c = column + SIDE - 1; c <= column + SIDE + 1; c++)
            count += now[r % SIDE * SIDE + c % SIDE];
    return count - now[row * SIDE + column];
}

// One thread's rows. Only cells that change are written, so few pages get dirty.
static void *worker(void *arg)
{
    int first = (int)(size_t)arg * ROWS;
    for (int generation = 1; generation <= GENERATIONS; generation++) {
        for (int i = first * SIDE; i < (first + ROWS) * SIDE; i++) {
            int n = neighbours(i / SIDE, i % SIDE);
            next[i] = n == 3 || (n == 2 && now[i]);
        }
        ak_barrier_wait(&step);
        for (int i = first * SIDE; i < (first + ROWS) * SIDE; i++)
            if (now[i] != next[i])
                now[i] = next[i];
        bool last = ak_barrier_wait(&step);
        if (generation % INTERVAL)
            continue;
        if (last) {
            ak_event_signal(&pause);
            ak_event_wait(&resume);
        }
        ak_barrier_wait(&step);
    }
    return NULL;
}

// Copy the pages that have been written since the last time. Returns their number.
static int checkpoint(void)
{
    int copied = 0;
    for (char *page = now; page < now + CELLS; page += AK_PAGE_SIZE)
        if (ak_page_test(page, AK_PAGE_SIZE, AK_PAGE_DIRTY, true) == 1) {
            memcpy(saved + (page - now), page, AK_PAGE_SIZE);
            copied++;
        }
    return copied;
}

static void too_late(void *arg)
{
    ak_print("not done after a minute (%s)", (const char *)arg);
    ak_exit(1);
}

int main(int argc, char **argv)
{
    struct ak_thread *thread[THREADS];
    struct ak_timer watchdog;
    now = ak_pages_alloc(6); // 2^6 pages
    next = ak_pages_alloc(6);
    saved = ak_pages_alloc(6);
    if (!now || !next || !saved || ak_page_prepare(now, CELLS)) {
        ak_print("%s: too little memory", argv[0]);
        return 1;
    }
    memset(now, 0, CELLS);
    for (int row = 0; row < 9; row++)
        for (int column = 0; gun[row][column]; column++)
            now[(row + 100) * SIDE + column + 100] = gun[row][column] == '#';
    ak_timer_start(&watchdog, ak_clock() + WATCHDOG_NS, too_late, argc > 1 ? argv[1] : "life");
    ak_barrier_init(&step, THREADS);
    ak_print("first checkpoint: %d of %d pages", checkpoint(), PAGES);
    for (size_t i = 0; i < THREADS; i++) {
        struct ak_thread_options options = {.cpu = (unsigned)i % ak_cpu_count()};
        if (ak_thread_create(&thread[i], worker, (void *)i, &options))
            return 1;
    }
    for (int generation = INTERVAL; generation <= GENERATIONS; generation += INTERVAL) {
        int alive = 0;
        ak_event_wait(&pause);
        int copied = checkpoint();
        for (int i = 0; i < CELLS; i++)
            alive += now[i];
        if (generation % 50 == 0)
            ak_print("generation %d: %d alive, %d pages written", generation, alive, copied);
        ak_event_signal(&resume);
    }
    for (int i = 0; i < THREADS; i++)
        ak_thread_join(thread[i]);
    ak_timer_stop(&watchdog);
    if (memcmp(now, saved, CELLS) != 0) {
        ak_print("the checkpoint is not the field");
        return 1;
    }
    ak_print("all %d pages of the checkpoint are right", PAGES);
    return 0;
}
