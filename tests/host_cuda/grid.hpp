// Runs a grid of CUDA threads on one thread of the host: block by block, warp by warp, each thread
// until it ends or waits for others.
//
// Stricter than a GPU, so that what is only undefined there is an error here: a barrier must be
// reached by every thread of the block, and at the same line; a shuffle by every lane of the warp.
// Blocks never run side by side, so what is there to order those (fences, atomic operations) is not
// put to the test.
#pragma once

#include <link.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "fiber.hpp"

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

// One block is alive at a time. In thread-local storage, so that spoil_shared_memory finds them.
#define __shared__ static thread_local

namespace host_cuda {

constexpr unsigned LANES = 32;

static thread_local volatile char touched;

// Fills all `__shared__` variables, which is all thread-local storage of this library, with NaN:
// else a kernel that reads too early may find what the block before left there, and be right.
inline void spoil_shared_memory() {
  touched = 1;  // the storage of a thread is made when it is first used
  dl_iterate_phdr(
      [](dl_phdr_info* library, std::size_t, void*) {
        const auto here = reinterpret_cast<std::uintptr_t>(&spoil_shared_memory);
        std::size_t size = 0;
        bool mine = false;
        for (int i = 0; i < library->dlpi_phnum; ++i) {
          const auto& part = library->dlpi_phdr[i];
          mine |= part.p_type == PT_LOAD && here - library->dlpi_addr - part.p_vaddr < part.p_memsz;
          if (part.p_type == PT_TLS) size = part.p_memsz;
        }
        if (mine) std::memset(library->dlpi_tls_data, 0xff, size);
        return static_cast<int>(mine);
      },
      nullptr);
}

// In which order the blocks of a grid, the warps of a block and the lanes of a warp take turns.
enum class Order : std::int64_t { forward, reverse, random };

struct Launch {
  std::int64_t across, down, block;
  Order order;
  std::int64_t seed;
};

struct Fiber {
  // More than any kernel needs. Not a power of two: stacks at the same place in every page would
  // share the same few lines of the processor's cache.
  static constexpr std::size_t SIZE = 32768 + 5 * 64;

  std::unique_ptr<char[]> stack{new char[SIZE]};
  Context context;
};

class Grid {
 public:
  // Runs `kernel` in every thread; returns what was wrong, or null.
  const char* run(const std::function<void()>& kernel, const Launch& launch);

  // What a thread calls: waits for its warp or its block, `line` being where.
  void wait_for_warp(int line) { wait(State::at_warp, line); }
  void wait_for_block(int line) { wait(State::at_block, line); }
  // Gives `word` to the warp; of the words that the warp gave, returns that of lane `source`.
  std::uint64_t exchange(std::uint64_t word, unsigned source, int line);
  [[noreturn]] void fail(std::string what);

 private:
  enum class State { ready, at_warp, at_block, ended };

  struct Thread {
    State state = State::ready;
    int line = 0;
    int exchanges = 0;
    std::uint64_t given[2] = {0, 0};  // a lane is never two exchanges ahead of another
    Fiber* fiber = nullptr;
  };

  void wait(State state, int line);
  bool run_block();
  void run_warp(unsigned first);
  void run_thread(unsigned number);
  bool release_warp(unsigned first);
  bool release_block();
  void diverged(const char* where);
  void arrange(std::vector<unsigned>& turns);
  Fiber* spare_fiber();
  static void run_threads();

  std::vector<Thread> threads_;
  std::vector<unsigned> warps_, lanes_;
  std::deque<Fiber> fibers_;
  std::vector<Fiber*> spare_;
  const std::function<void()>* kernel_ = nullptr;
  bool met_ = false;  // whether this block has come to a barrier
  unsigned current_ = 0;
  Context scheduler_;
  Launch launch_{};
  std::mt19937 random_;
  std::string failure_;
};

static Grid grid;

inline const char* Grid::run(const std::function<void()>& kernel, const Launch& launch) {
  failure_.clear();
  kernel_ = &kernel;
  launch_ = launch;
  random_.seed(static_cast<unsigned>(launch.seed));
  gridDim = {static_cast<unsigned>(launch.across), static_cast<unsigned>(launch.down), 1};
  blockDim = {static_cast<unsigned>(launch.block), 1, 1};
  threads_.resize(blockDim.x);
  warps_.resize(blockDim.x / LANES);
  lanes_.resize(LANES);
  std::vector<unsigned> blocks(gridDim.x * gridDim.y);
  arrange(blocks);
  spoil_shared_memory();
  for (unsigned block : blocks) {
    blockIdx = {block % gridDim.x, block / gridDim.x, 0};
    if (!run_block()) {
      fibers_.clear();  // those that stopped in the middle are of no use any more
      spare_.clear();
      return failure_.c_str();
    }
    if (met_) spoil_shared_memory();  // not for kernels without barriers: it takes longer than they
  }
  return nullptr;
}

inline bool Grid::run_block() {
  std::fill(threads_.begin(), threads_.end(), Thread{});
  met_ = false;
  do {
    arrange(warps_);
    for (unsigned warp : warps_) {
      run_warp(warp * LANES);
      if (!failure_.empty()) return false;
    }
  } while (release_block());
  return failure_.empty();
}

inline void Grid::run_warp(unsigned first) {
  do {
    arrange(lanes_);
    for (unsigned lane : lanes_) {
      if (threads_[first + lane].state == State::ready) run_thread(first + lane);
      if (!failure_.empty()) return;
    }
  } while (release_warp(first));
}

inline void Grid::run_thread(unsigned number) {
  Thread& thread = threads_[number];
  if (!thread.fiber) thread.fiber = spare_fiber();
  current_ = threadIdx.x = number;
  scheduler_.switch_to(thread.fiber->context);
  if (thread.state == State::ended) spare_.push_back(thread.fiber);
}

// What every fiber does: the thread that it was given, and, when it is resumed, the next one.
inline void Grid::run_threads() {
  for (;;) {
    (*grid.kernel_)();
    grid.wait(State::ended, 0);
  }
}

inline void Grid::wait(State state, int line) {
  Thread& thread = threads_[current_];
  thread.state = state;
  thread.line = line;
  thread.fiber->context.switch_to(scheduler_);
}

inline bool Grid::release_warp(unsigned first) {
  const auto begin = threads_.begin() + first, end = begin + LANES;
  const auto waits = [](const Thread& thread) { return thread.state == State::at_warp; };
  if (std::none_of(begin, end, waits)) return false;
  if (!std::all_of(begin, end, [&](const Thread& thread) {
        return waits(thread) && thread.line == begin->line;
      })) {
    diverged("warp");
    return false;
  }
  for (auto thread = begin; thread != end; ++thread) thread->state = State::ready;
  return true;
}

inline bool Grid::release_block() {
  const Thread& first = threads_[0];
  for (const Thread& thread : threads_) {
    if (thread.state != first.state || thread.line != first.line) {
      diverged("block");
      return false;
    }
  }
  if (first.state == State::ended) return false;
  met_ = true;
  for (Thread& thread : threads_) thread.state = State::ready;
  return true;
}

inline void Grid::diverged(const char* where) {
  failure_ = std::string("the threads of a ") + where + " went different ways to a barrier: block (" +
             std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + "), threads";
  for (unsigned number = 0; number < threads_.size(); ++number) {
    const Thread& thread = threads_[number];
    if (number && thread.state == threads_[number - 1].state &&
        thread.line == threads_[number - 1].line) {
      continue;
    }
    failure_ += " from " + std::to_string(number) + " on ";
    failure_ += thread.state == State::ended ? "ended"
                : thread.state == State::ready
                    ? "had yet to go on"
                    : "waited at line " + std::to_string(thread.line);
    failure_ += ";";
  }
}

inline std::uint64_t Grid::exchange(std::uint64_t word, unsigned source, int line) {
  Thread& mine = threads_[current_];
  const unsigned warp = current_ / LANES * LANES;
  const int turn = mine.exchanges++ % 2;
  mine.given[turn] = word;
  wait_for_warp(line);
  return threads_[warp + source].given[turn];
}

inline void Grid::fail(std::string what) {
  failure_ = std::move(what);
  for (;;) threads_[current_].fiber->context.switch_to(scheduler_);
}

inline void Grid::arrange(std::vector<unsigned>& turns) {
  std::iota(turns.begin(), turns.end(), 0u);
  if (launch_.order == Order::reverse) std::reverse(turns.begin(), turns.end());
  if (launch_.order == Order::random) std::shuffle(turns.begin(), turns.end(), random_);
}

// The one that was used last comes first: its stack is in the cache.
inline Fiber* Grid::spare_fiber() {
  if (spare_.empty()) {
    fibers_.emplace_back();
    Fiber& made = fibers_.back();
    made.context.prepare(run_threads, made.stack.get(), Fiber::SIZE);
    return &made;
  }
  Fiber* fiber = spare_.back();
  spare_.pop_back();
  return fiber;
}

}  // namespace host_cuda
