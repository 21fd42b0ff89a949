rodeo_library(rodeo_train
  SOURCES corpus.c input.c step.c evaluate.c checkpoint.c checkpoint_pth.c run.c confusion.c trainer.c epoch.c plan_dump.c train.c
  LINKS rodeo_settings rodeo_logs rodeo_data rodeo_model rodeo_kernels rodeo_base)
