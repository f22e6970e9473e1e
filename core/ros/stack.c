#include "ros/stack.h"

#include "base/string.h"
#include "ros/ros.h"

// True if a call instruction ends right before the address (Intel manual, volume 2, CALL): E8 with
// four bytes, or FF /2 with one to six bytes for the operand.
static bool follows_call(uint64_t address)
{
    enum { LONGEST = 7 };
    uint8_t before[LONGEST];
    if (ros_copy_in(before, address - LONGEST, LONGEST))
        return false;
    if (before[LONGEST - 5] == 0xe8)
        return true;
    for (unsigned length = 2; length <= LONGEST; length++)
        if (before[LONGEST - length] == 0xff && (before[LONGEST - length + 1] >> 3 & 7) == 2)
            return true;
    return false;
}

// Whether pages may be executed, as far as this stack has asked: its words lead to few pages.
struct pages {
    uint64_t page[64];
    bool executable[64];
};

static bool is_executable(struct pages *pages, uint64_t address)
{
    uint64_t page = address / PAGE_SIZE;
    unsigned at = page % ARRAY_SIZE(pages->page);
    if (pages->page[at] != page) {
        pages->page[at] = page;
        pages->executable[at] = ros_space_executable(address);
    }
    return pages->executable[at];
}

static bool is_return(struct pages *pages, uint64_t word)
{
    enum { LOWEST = 1 << 16 }; // what Linux maps (proc(5), mmap_min_addr)
    return word > LOWEST && word < TASK_END && is_executable(pages, word - 1) && follows_call(word);
}

static void walk_frames(struct ros_stack *ret, struct pages *pages, uint64_t rsp, uint64_t rbp)
{
    enum { FRAME_MAX = 1 << 20 };
    uint64_t below = rsp;
    while (ret->frames < MV_PROFILE_FRAMES) {
        uint64_t frame[2]; // the caller's frame pointer, the return address
        if (rbp % 8 || rbp < below || rbp - below > FRAME_MAX ||
            ros_copy_in(frame, rbp, sizeof(frame)) || !is_return(pages, frame[1]))
            return;
        ret->frame[ret->frames++] = frame[1];
        below = rbp + sizeof(frame);
        rbp = frame[0];
    }
}

void ros_stack_take(struct ros_stack *ret, uint64_t rsp, uint64_t rbp, uint64_t *end)
{
    struct pages pages = {0}; // page 0 is never asked for
    ret->frames = ret->words = 0;
    memset(ret->frame, 0, sizeof(ret->frame));
    memset(ret->returns, 0, sizeof(ret->returns));
    rsp = ALIGN_UP(rsp, sizeof(uint64_t));
    while (ret->words < MV_PROFILE_WORDS) {
        uint64_t from = rsp + ret->words * sizeof(uint64_t);
        uint64_t left = (MV_PROFILE_WORDS - ret->words) * sizeof(uint64_t);
        uint64_t bytes = MIN(left, PAGE_SIZE - from % PAGE_SIZE); // the next page may be none
        if (ret->words && from == *end)
            break;
        if (ros_copy_in(&ret->word[ret->words], from, bytes)) {
            *end = from;
            break;
        }
        ret->words += (uint32_t)(bytes / sizeof(uint64_t));
    }
    for (unsigned i = 0; i < ret->words; i++)
        if (is_return(&pages, ret->word[i]))
            ret->returns[i / 64] |= 1ULL << i % 64;
    walk_frames(ret, &pages, rsp, rbp);
}
