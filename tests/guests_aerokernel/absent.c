// Natively there is no AeroKernel, and a program can find that out.
#include <aerokernel.h>
#include <stdio.h>

int main(void)
{
    int err = ak_attach();
    printf("%d\n", err);
    return err == 0;
}
