/* SPDX-License-Identifier: MIT */
/*
 * Gloo, as a peer: its TCP transport on the loopback interface. Started by tutti-run, which says who is which rank; the
 * ranks meet in the directory COMPARE_STORE. Gloo reports errors as exceptions, which end the program.
 *
 * Gloo's reduce-scatter works in place on a buffer that it is tied to when it is set up. The call that is compared
 * keeps its source and has a result of its own, so here a copy goes before it and another after it.
 */
#include "backend.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/math.h>
#include <gloo/reduce_scatter.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/types.h>

namespace
{
std::shared_ptr<gloo::rendezvous::Context> context;

int number(const char *name)
{
	const char *text = getenv(name);
	return text ? atoi(text) : 0;
}

void forget_scatters();

int run(int (*each)())
{
	gloo::transport::tcp::attr where;
	where.hostname = "127.0.0.1";
	auto device = gloo::transport::tcp::CreateDevice(where);
	gloo::rendezvous::FileStore store(getenv("COMPARE_STORE"));
	context = std::make_shared<gloo::rendezvous::Context>(number("TUTTI_RANK"), number("TUTTI_SIZE"));
	context->connectFullMesh(store, device);
	int rc = each();
	forget_scatters();
	context.reset();
	return rc;
}

int rank()
{
	return context->rank;
}

int size()
{
	return context->size;
}

void barrier()
{
	gloo::BarrierOptions options(context);
	gloo::barrier(options);
}

template <typename T> void sum_all(const void *in, void *out, size_t count)
{
	gloo::AllreduceOptions options(context);
	options.setInput(static_cast<T *>(const_cast<void *>(in)), count);
	options.setOutput(static_cast<T *>(out), count);
	options.setReduceFunction([](void *a, const void *b, const void *c, size_t n) { gloo::sum<T>(a, b, c, n); });
	gloo::allreduce(options);
}

template <typename T> void gather_all(const void *in, void *out, size_t count)
{
	gloo::AllgatherOptions options(context);
	options.setInput(static_cast<T *>(const_cast<void *>(in)), count);
	options.setOutput(static_cast<T *>(out), count * context->size);
	gloo::allgather(options);
}

/* The reduce-scatter of one size, with the buffer that it works on. */
template <typename T> struct scatter {
	size_t part;
	std::vector<T> data;
	gloo::ReduceScatterHalvingDoubling<T> algorithm;

	explicit scatter(size_t count)
	    : part(count), data(count * context->size),
	      algorithm(context, {data.data()}, static_cast<int>(data.size()),
	                std::vector<int>(context->size, static_cast<int>(count)))
	{
	}
};
template <typename T> std::unique_ptr<scatter<T>> current;

void forget_scatters()
{
	current<float>.reset();
	current<gloo::float16>.reset();
}

template <typename T> void sum_scatter(const void *in, void *out, size_t count)
{
	auto &s = current<T>;
	if (!s || s->part != count) {
		s.reset();
		s = std::make_unique<scatter<T>>(count);
	}
	std::memcpy(static_cast<void *>(s->data.data()), in, s->data.size() * sizeof(T));
	s->algorithm.run();
	std::memcpy(out, s->data.data(), count * sizeof(T));
}

void allreduce(const void *in, void *out, size_t count, enum element e)
{
	e == F32 ? sum_all<float>(in, out, count) : sum_all<gloo::float16>(in, out, count);
}

void allgather(const void *in, void *out, size_t count, enum element e)
{
	e == F32 ? gather_all<float>(in, out, count) : gather_all<gloo::float16>(in, out, count);
}

void reduce_scatter(const void *in, void *out, size_t count, enum element e)
{
	e == F32 ? sum_scatter<float>(in, out, count) : sum_scatter<gloo::float16>(in, out, count);
}
} // namespace

const struct backend backend = {
        .elements = 1u << F32 | 1u << F16,
        .run = run,
        .rank = rank,
        .size = size,
        .barrier = barrier,
        .allreduce = allreduce,
        .allgather = allgather,
        .reduce_scatter = reduce_scatter,
        .take = nullptr,
        .give = nullptr,
};
