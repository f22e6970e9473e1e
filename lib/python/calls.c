// multiverse.accelerator._calls: what Hrt.call() does for plain arguments and results. All others
// go the general way, which is Python's (convert.py).

#include <Python.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "multiverse.h"

enum { INTEGERS = 6, REALS = 8, PLAN_KINDS = 11 };

// What convert.py has found out about a function, in bytes.
struct plan {
    uint64_t address;
    char result;       // a letter, see result_of()
    uint8_t of_ctypes; // it is one of ctypes', whose types can be changed
    uint8_t variadic;
    char kinds[]; // of arguments, letters, see add()
};
_Static_assert(offsetof(struct plan, kinds) == PLAN_KINDS, "as convert.py packs it");

// Of ctypes' functions, what may be changed.
enum { ARGTYPES, RESTYPE, ERRCHECK, ATTRIBUTES };

struct calls {
    PyObject ob_base; // PyObject_HEAD
    __typeof__(mv_hrt_call) *call;
    __typeof__(mv_hrt_invoke) *invoke;
    struct mv_hrt *hrt; // NULL: closed
    PyObject *known;    // Converter.known
    PyObject *names[ATTRIBUTES];
};

// C's errno belongs to the calls: Python changes the thread's own between them.
static _Thread_local int saved_errno;

struct arguments {
    uint64_t integers[INTEGERS];
    double reals[REALS];
    unsigned integers_count, reals_count;
};

static bool add_integer(struct arguments *to, uint64_t value)
{
    if (to->integers_count == INTEGERS)
        return false;
    to->integers[to->integers_count++] = value;
    return true;
}

static bool add_real(struct arguments *to, double value, bool single)
{
    if (to->reals_count == REALS)
        return false;
    if (single) { // its bits are the lower half of a double's
        float narrow = (float)value;
        value = 0;
        memcpy(&value, &narrow, sizeof(narrow));
    }
    to->reals[to->reals_count++] = value;
    return true;
}

// As C converts: what does not fit is cut off.
static uint64_t narrow(uint64_t value, char kind)
{
    switch (kind) {
    case 'b':
        return (uint64_t)(int8_t)value;
    case 'B':
        return (uint8_t)value;
    case 'h':
        return (uint64_t)(int16_t)value;
    case 'H':
        return (uint16_t)value;
    case 'i':
        return (uint64_t)(int32_t)value;
    case 'I':
        return (uint32_t)value;
    default:
        return value;
    }
}

// Whether there was no exception; there is none then.
static bool is_fine(void)
{
    bool fine = !PyErr_Occurred();
    PyErr_Clear();
    return fine;
}

// Add an argument of a kind: a letter of the struct module, P for pointers, * if nothing is known.
// Returns false for what the general way has to do.
static bool add(struct arguments *to, char kind, PyObject *value)
{
    if (PyFloat_CheckExact(value))
        return (kind == 'd' || kind == 'f' || kind == '*') &&
               add_real(to, PyFloat_AsDouble(value), kind == 'f');
    if (PyLong_CheckExact(value)) {
        if (kind == 'd' || kind == 'f') {
            double real = PyLong_AsDouble(value);
            return is_fine() && add_real(to, real, kind == 'f');
        }
        int overflow;
        uint64_t integer = (uint64_t)PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow > 0)
            integer = PyLong_AsUnsignedLongLong(value);
        return overflow >= 0 && is_fine() && add_integer(to, narrow(integer, kind));
    }
    if (kind != 'P' && kind != '*')
        return false;
    if (value == Py_None)
        return add_integer(to, 0);
    return PyBytes_CheckExact(value) && add_integer(to, (uint64_t)PyBytes_AsString(value));
}

static PyObject *result_of(char kind, uint64_t integer, double real)
{
    float single;
    switch (kind) {
    case 'v':
        Py_RETURN_NONE;
    case 'd':
        return PyFloat_FromDouble(real);
    case 'f':
        memcpy(&single, &real, sizeof(single));
        return PyFloat_FromDouble(single);
    case 'b':
    case 'h':
    case 'i':
    case 'l':
    case 'q':
        return PyLong_FromLongLong((int64_t)narrow(integer, kind));
    case 'P':
        if (!integer)
            Py_RETURN_NONE;
        return PyLong_FromUnsignedLongLong(integer);
    default:
        return PyLong_FromUnsignedLongLong(narrow(integer, kind));
    }
}

static bool is_attribute(PyObject *object, PyObject *name, PyObject *wanted)
{
    PyObject *value = PyObject_GetAttr(object, name);
    Py_XDECREF(value); // the object has it still
    return value == wanted;
}

// The plan for a function, or NULL where there is none, or it is not so any more. kinds: how many.
// keep: what holds it, or NULL. own: room for that of an address.
static const struct plan *plan_of(struct calls *self, PyObject *function, Py_ssize_t *kinds,
                                  PyObject **keep, struct plan *own)
{
    *kinds = 0, *keep = NULL;
    if (PyLong_CheckExact(function)) {
        *own = (struct plan){
            .address = PyLong_AsUnsignedLongLong(function), .result = 'q', .variadic = 1};
        return own->address && own->address < 1ULL << 47 ? own : NULL;
    }
    PyObject *number = PyLong_FromVoidPtr(function);
    PyObject *seen = number ? PyDict_GetItemWithError(self->known, number) : NULL;
    Py_XDECREF(number);
    if (!seen)
        return NULL;
    *keep = seen;
    Py_INCREF(seen);
    PyObject *same = PyObject_CallNoArgs(PyTuple_GetItem(seen, 0));
    Py_XDECREF(same); // the caller has it still, if it is the function
    if (same != function || PyTuple_GetItem(seen, 4) == Py_None)
        return NULL;
    PyObject *bytes = PyTuple_GetItem(seen, 4);
    const struct plan *plan = (const void *)PyBytes_AsString(bytes);
    *kinds = PyBytes_Size(bytes) - PLAN_KINDS;
    if (plan->of_ctypes &&
        !(is_attribute(function, self->names[ARGTYPES], PyTuple_GetItem(seen, 1)) &&
          is_attribute(function, self->names[RESTYPE], PyTuple_GetItem(seen, 2)) &&
          is_attribute(function, self->names[ERRCHECK], Py_None)))
        return NULL;
    return plan;
}

static int invoke(struct calls *self, const struct plan *plan, struct arguments *arguments,
                  uint64_t *result, double *real)
{
    void *function = (void *)plan->address;
    if (!arguments->reals_count && plan->result != 'd' && plan->result != 'f')
        return self->call(self->hrt, result, function, arguments->integers_count,
                          arguments->integers);
    struct mv_call call;
    memset(&call, 0, offsetof(struct mv_call, fault));
    call.function = function;
    memcpy(call.integers, arguments->integers, sizeof(call.integers));
    memcpy(call.reals, arguments->reals, sizeof(call.reals));
    int err = self->invoke(self->hrt, &call);
    *result = call.result[0];
    *real = call.real_result[0];
    return err;
}

static PyObject *call_plan(struct calls *self, const struct plan *plan, Py_ssize_t known,
                           PyObject *const *args, Py_ssize_t count)
{
    struct arguments arguments = {0};
    uint64_t result = 0;
    double real = 0;
    int err;
    if (count < known || (count > known && !plan->variadic))
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!add(&arguments, i < known ? plan->kinds[i] : '*', args[i]))
            return NULL;
    PyThreadState *state = PyEval_SaveThread();
    errno = saved_errno;
    err = invoke(self, plan, &arguments, &result, &real);
    saved_errno = errno;
    PyEval_RestoreThread(state);
    return err ? PyObject_CallMethod((PyObject *)self, "_failed", "i", err)
               : result_of(plan->result, result, real);
}

// Returns NULL with an exception, or without one for what the general way has to do.
static PyObject *quick(struct calls *self, PyObject *function, PyObject *const *args,
                       Py_ssize_t count)
{
    struct plan own;
    Py_ssize_t known;
    PyObject *keep = NULL;
    const struct plan *plan = self->hrt ? plan_of(self, function, &known, &keep, &own) : NULL;
    if (!plan)
        PyErr_Clear();
    PyObject *ret = plan ? call_plan(self, plan, known, args, count) : NULL;
    Py_XDECREF(keep);
    return ret;
}

PyDoc_STRVAR(
    call_doc,
    "call($self, function, /, *args, restype=None)\n--\n\n"
    "Call a function in the HRT and return its result.\n\n"
    "function: a function of ctypes or cffi, a numba @cfunc, or an address (int), whose result\n"
    "`restype` (a ctypes type; 64-bit integer) describes. args: numbers, bytes, buffers such as\n"
    "NumPy arrays, None, and what ctypes and cffi have; converted as the function's types say.\n"
    "Other Python threads go on meanwhile. The function runs on a thread of the HRT with the\n"
    "calling thread's thread-local storage.\n\n"
    "Raises HrtFault if an instruction of it raises a signal (SIGSEGV, SIGFPE, ...), HrtError if\n"
    "the HRT has been closed or belongs to a parent process, TypeError for what cannot be\n"
    "converted.");

static PyObject *call(struct calls *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *restype = Py_None, *ret = NULL;
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "call() needs a function");
        return NULL;
    }
    if (names && PyTuple_Size(names)) {
        PyObject *name = PyTuple_GetItem(names, 0);
        if (PyTuple_Size(names) > 1 || PyUnicode_CompareWithASCIIString(name, "restype")) {
            PyErr_Format(PyExc_TypeError, "call() takes restype= only, not %R", names);
            return NULL;
        }
        restype = args[count];
    }
    if (restype == Py_None)
        ret = quick(self, args[0], args + 1, count - 1);
    if (ret || PyErr_Occurred())
        return ret;
    PyObject *rest = PyTuple_New(count - 1);
    for (Py_ssize_t i = 1; rest && i < count; i++) {
        Py_INCREF(args[i]);
        PyTuple_SetItem(rest, i - 1, args[i]);
    }
    if (rest)
        ret = PyObject_CallMethod((PyObject *)self, "_call", "OOO", args[0], rest, restype);
    Py_XDECREF(rest);
    return ret;
}

static int clear(struct calls *self)
{
    self->hrt = NULL; // the rest is for calls only
    Py_CLEAR(self->known);
    for (unsigned i = 0; i < ATTRIBUTES; i++)
        Py_CLEAR(self->names[i]);
    return 0;
}

static PyObject *attach(struct calls *self, PyObject *args)
{
    unsigned long long call_at, invoke_at, hrt;
    PyObject *known;
    if (!PyArg_ParseTuple(args, "KKKO!", &call_at, &invoke_at, &hrt, &PyDict_Type, &known))
        return NULL;
    static const char *const names[ATTRIBUTES] = {"argtypes", "restype", "errcheck"};
    clear(self);
    Py_INCREF(known);
    self->known = known;
    for (unsigned i = 0; i < ATTRIBUTES; i++)
        if (!(self->names[i] = PyUnicode_InternFromString(names[i])))
            return NULL;
    self->call = (__typeof__(self->call))call_at;
    self->invoke = (__typeof__(self->invoke))invoke_at;
    self->hrt = (struct mv_hrt *)hrt;
    Py_RETURN_NONE;
}

static PyObject *detach(struct calls *self, PyObject *unused)
{
    (void)unused;
    self->hrt = NULL;
    Py_RETURN_NONE;
}

static PyObject *invoke_at(struct calls *self, PyObject *address)
{
    struct mv_call *call = PyLong_AsVoidPtr(address);
    int err;
    if (PyErr_Occurred())
        return NULL;
    if (!self->hrt)
        return PyLong_FromLong(-ESHUTDOWN);
    PyThreadState *state = PyEval_SaveThread();
    errno = saved_errno;
    err = self->invoke(self->hrt, call);
    saved_errno = errno;
    PyEval_RestoreThread(state);
    return PyLong_FromLong(err);
}

static PyObject *get_errno(PyObject *self, void *unused)
{
    (void)self, (void)unused;
    return PyLong_FromLong(saved_errno);
}

static int traverse(struct calls *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->known);
    return 0;
}

static void dealloc(struct calls *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"call", (PyCFunction)(void (*)(void))call, METH_FASTCALL | METH_KEYWORDS, call_doc},
    {"_attach", (PyCFunction)(void (*)(void))attach, METH_VARARGS,
     "Addresses of mv_hrt_call() and mv_hrt_invoke(), the HRT's, and Converter.known."},
    {"_detach", (PyCFunction)(void (*)(void))detach, METH_NOARGS, "The HRT is no more."},
    {"_invoke", (PyCFunction)(void (*)(void))invoke_at, METH_O,
     "mv_hrt_invoke() for the struct mv_call at an address; its status."},
    {0},
};

static PyGetSetDef properties[] = {
    {"errno", get_errno, NULL, "C's errno as the calling thread's last call left it.", NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_dealloc, dealloc},
    {Py_tp_doc, (void *)"Calls of functions in an HRT."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "multiverse.accelerator._calls.Calls",
    .basicsize = sizeof(struct calls),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

static int execute(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&spec);
    int err = type ? PyModule_AddObjectRef(module, "Calls", type) : -1;
    Py_XDECREF(type);
    return err;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "multiverse.accelerator._calls",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__calls(void)
{
    return PyModuleDef_Init(&module);
}
